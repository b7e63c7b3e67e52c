"""Rounds scores in [0, 1] to a mask, pushes them down by a penalty, and removes the lowest of all layers step by step.

Sreenivasan, Sohn, Yang, Grinde, Nagle, Wang, Xing, Lee, Papailiopoulos: Rare Gems: Finding Lottery Tickets at
Initialization. NeurIPS 2022, arXiv 2202.12002.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from supermask import masks
from supermask.errors import UsageError
from supermask.methods._freezing import Freezing
from supermask.methods._numbers import Numbered
from supermask.types import Array, Clock, InitContext, Recipe, Shapes, Tree

_FROZEN = -1.0  # the score of a weight that is removed for good


@dataclass(frozen=True)
class GemMiner(Numbered, Freezing):
    """In training a weight is kept while its score is above 1/2; dL/ds = G * W.

    After every `period` epochs the active scores of all layers are ranked together and the lowest are frozen. The
    active share falls geometrically to exactly the density; the ticket keeps all weights that are active at the end.
    A default search has at least 100 epochs: with fewer the few freezes remove too much at once.

    Attributes:
        strength: factor of the penalty, which is the sum of squared active scores (published: 1e-6 to 1e-4, by network
            and density).
        period: epochs between two freezes, at most half of the epochs.
        delay: epochs before the first period begins: 1 freezes after epochs 6, 11 ... as the published code, 0 after
            epochs 5, 10 ...
    """

    strength: float = 3e-5
    period: int = 5
    delay: int = 0

    keeps_density: ClassVar[bool] = True
    paper: ClassVar[str] = "Sreenivasan et al. 2022, arXiv 2202.12002"
    recipe: ClassVar[Recipe] = Recipe(weight_decay=0.0)
    least_epochs: ClassVar[int] = 100
    added: ClassVar[Mapping[str, Any]] = {"delay": 0}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.period < 1 or self.strength < 0:
            raise UsageError(f"period is {self.period} and strength {self.strength}; they must be 1 and 0 or more")
        if not 0 <= self.delay <= 1:
            raise UsageError(f"delay is {self.delay}; it must be 0 or 1")

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        return {
            name: masks.as_vector(jax.random.uniform, masks.key_for(key, name), w.shape) for name, w in weights.items()
        }

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        return {name: masks.straight_through(s > 0.5, s) for name, s in scores.items()}

    def made(self, shapes: Shapes) -> tuple[float, int]:
        """The density, and how many weights are active at the end."""
        return self.density, masks.kept_count(self.density, sum(map(math.prod, shapes.values())))

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        return self._best(scores, self._last(scores)[1])

    def penalty(self, scores: Tree, *, progress: Array) -> Array:
        return self.strength * sum((jnp.sum(jnp.maximum(s, 0) ** 2) for s in scores.values()), jnp.float32(0))

    def after_update(
        self, scores: Tree, state: Any, before: Tree, weights: Tree, *, key: Array, clock: Clock
    ) -> tuple[Tree, Any]:
        inside = {name: jnp.where(before[name] < 0, _FROZEN, jnp.clip(s, 0, 1)) for name, s in scores.items()}
        epochs = clock.total_steps // clock.steps_per_epoch
        period = max(1, min(self.period, epochs // 2))
        freezes = max(1, (epochs - 1) // period)
        turn = (clock.epochs_done - self.delay) // period
        size = sum(s.size for s in scores.values())

        def freeze() -> Tree:
            density, last = self._last(inside)
            share = jnp.float32(density) ** (turn.astype(jnp.float32) / freezes)
            count = jnp.where(turn == freezes, last, jnp.round(share * size).astype(jnp.int32))
            kept = self._best(inside, count)
            return {name: jnp.where(kept[name], s, _FROZEN) for name, s in inside.items()}

        ends = clock.ends_epoch() & ((clock.epochs_done - self.delay) % period == 0)
        return lax.cond(ends & (turn >= 1) & (turn <= freezes), freeze, lambda: inside), state

    def _last(self, scores: Tree) -> Any:
        return self.given({name: s.shape for name, s in scores.items()})

    @staticmethod
    def _best(scores: Tree, count: Array | int) -> Tree:
        """The highest `count` scores of all layers, as bool arrays."""
        return masks.over_layers(masks.top_k_signed, scores, count)  # frozen scores are below all others
