"""Frozen: a method that searches only among the weights that a seed leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import jax.numpy as jnp
import numpy as np

from supermask.engine.within import Within, chosen, each
from supermask.errors import UsageError
from supermask.methods._freezing import Freezing
from supermask.types import Array, Clock, InitContext, Shapes, Tree
from supermask.weights.frozen import frozen_pattern

HIGHEST = 1e30
"""Stands for the score of a weight that is kept for good: above every score, and finite."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frozen(Within):
    """Another method whose scores of removed weights rank below all others, and those of kept ones above all others.

    Attributes:
        locked: bool, by masked parameter: True where a weight is kept for good; `inside` is False where it is removed.
    """

    method: Freezing
    locked: Tree

    @classmethod
    def of_seed(cls, method: Freezing, shapes: Shapes, seed: int) -> Self:
        """Return a method that searches among what this seed leaves open.

        Raises:
            UsageError: the method must keep fewer weights of a layer than are kept for good, or more than are left.
        """
        pattern = frozen_pattern(seed, shapes, method.freeze_pruned, method.freeze_kept)
        inside, locked = {name: p >= 0 for name, p in pattern.items()}, {name: p > 0 for name, p in pattern.items()}
        found = cls(density=method.density, method=method, inside=inside, locked=locked)
        found.check_room()
        return found

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        return self._searched(self.locked, super().init(key, weights, context))

    def first_state(self, scores: Tree) -> dict[str, Tree]:
        return super().first_state(scores) | {"locked": {name: jnp.asarray(self.locked[name]) for name in scores}}

    def after_update(
        self, scores: Tree, state: Any, before: Tree, weights: Tree, *, key: Array, clock: Clock, loss: Array = 0.0
    ) -> tuple[Tree, Any]:
        moved, state = super().after_update(scores, state, before, weights, key=key, clock=clock, loss=loss)
        return self._searched(state["locked"], moved), state

    def ranked_apart(self, scores: Tree, state: Any) -> Tree:
        low = super().ranked_apart(scores, state)
        return each(state["locked"], low, lambda locked, s: jnp.where(locked, HIGHEST, s))

    def check_room(self) -> None:
        """Let the method choose among equal scores, and compare its choice with what is frozen."""
        method = self.method
        equal = {name: jnp.ones(kept.shape, jnp.float32) for name, kept in self.inside.items()}
        state = self.first_state(equal)
        found = method.harden(self.ranked_apart(equal, state), equal)
        for name, mask in found.items():
            kept, inside, locked = np.asarray(mask) != 0, self.inside[name], self.locked[name]
            if (kept & ~inside).any() or (locked & ~kept).any():
                raise UsageError(
                    f"density {method.density:g} keeps {int(kept.sum()):,} of the {kept.size:,} weights of {name}, "
                    f"where {int(locked.sum()):,} are kept for good and {int((~inside).sum()):,} removed: give lower "
                    "--freeze-kept, --freeze-pruned or --min-per-unit, or another --allocation"
                )

    @staticmethod
    def _searched(locked: Tree, scores: Tree) -> Tree:
        return chosen({name: ~array for name, array in locked.items()}, scores)
