"""Adds up several nested top-k masks of the same scores into a mask of small whole numbers.

Okoshi, Garcia-Arias, Hirose, Ando, Kawamura, Van Chu, Motomura, Yu: Multicoated Supermasks Enhance Hidden Networks.
ICML 2022, PMLR 162.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import jax.numpy as jnp

from supermask import masks
from supermask.errors import UsageError
from supermask.masks.allocation import allocate
from supermask.methods._topk import TopK
from supermask.types import Array, InitContext, Recipe, Shapes, Tree


@dataclass(frozen=True)
class Multicoated(TopK):
    """The mask value of a weight is the number of coats that keep it. Each coat is a top-k of |score|.

    The first coat keeps the density. dL/ds = coats * G * W * sign(s): every coat passes the gradient on. Published
    weights are divided by sqrt(density), which `--scale-by-density` does; without batch norm that matters.

    Attributes:
        coats: share of the kept weights in each coat; the first is 1. The default is the published example at
            density 0.3: 0.3, 0.0788 and 0.0315 of all weights. We do not know how the paper chooses other shares.
    """

    coats: str = "1,0.2627,0.105"

    paper: ClassVar[str] = "Okoshi et al. 2022, PMLR 162"
    recipe: ClassVar[Recipe] = Recipe()

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = self.shares
        if not 0 < len(shares) < 128 or shares[0] != 1 or any(not 0 < b < a for a, b in pairwise(shares)):
            raise UsageError(f"coats is {self.coats!r}; it must be 1 followed by falling shares, such as 1,0.5,0.25")
        if self.pattern or self.layer_density or self.min_per_unit:
            raise UsageError("multicoated takes no pattern, layer_density or min_per_unit")
        if self.freeze_kept > self.density * shares[-1]:
            raise UsageError(
                f"the last coat keeps {self.density * shares[-1]:.4g} of the weights, and freeze_kept is "
                f"{self.freeze_kept:g}: it must be at most that"
            )

    def check(self, shapes: Shapes) -> None:
        for share in self.shares:
            allocate(shapes, self.density * share, self.allocation)

    @property
    def shares(self) -> list[float]:
        try:
            return [float(part) for part in self.coats.split(",")]
        except ValueError:
            return []

    @property
    def densities(self) -> Sequence[float]:
        return [self.density * share for share in self.shares]

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        return masks.normal_scores(key, weights, lambda fan_in, fan_out: math.sqrt(2 / fan_out), context.fans)

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array, state: Any = None) -> Tree:
        worn, soft = self._worn(scores, self.ahead(progress)), self.ranked(scores)
        return {name: masks.straight_through(worn[name], len(self.shares) * soft[name]) for name in soft}

    def harden(self, scores: Tree, weights: Tree, state: Any = None) -> Tree:
        return self._worn(scores)

    def _worn(self, scores: Tree, ahead: Array | None = None) -> Tree:
        """The number of coats that keep each weight, int8."""
        ranked = self.ranked(scores)
        coats = [self.select(ranked, ahead, coat) for coat in range(len(self.shares))]
        return {
            name: sum((coat[name].astype(jnp.int8) for coat in coats[1:]), coats[0][name].astype(jnp.int8))
            for name in ranked
        }
