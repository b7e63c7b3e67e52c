"""The base class of baselines: methods that fix the mask before training."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from supermask.methods._topk import Selecting
from supermask.types import Array, Tree


@dataclass(frozen=True)
class Baseline(Selecting):
    """Top-k without a gradient: the scores are set once, before training."""

    learned: ClassVar[bool] = False

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        return {name: array.astype(jnp.float32) for name, array in self.harden(scores, weights).items()}
