"""What the masks that are fixed before training share."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from supermask import masks
from supermask.types import Array, Method, Tree


@dataclass(frozen=True)
class Floor(Method):
    """Top-k of |score| per layer, without a gradient: the scores are set once, by `init`."""

    learned: ClassVar[bool] = False

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        return {name: array.astype(jnp.float32) for name, array in self.harden(scores, weights).items()}

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        return {name: masks.top_k(jnp.abs(s), masks.kept_count(self.density, s.size)) for name, s in scores.items()}
