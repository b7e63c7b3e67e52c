"""The base class of baselines: methods that fix the mask before training."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from supermask.methods._topk import Selecting
from supermask.types import Array, Clock, Tree


@dataclass(frozen=True)
class Baseline(Selecting):
    """Top-k without a gradient: the scores are set once, before training, which may still train other parameters."""

    learned: ClassVar[bool] = False

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        return {name: array.astype(jnp.float32) for name, array in self.harden(scores, weights).items()}

    def after_update(
        self, scores: Tree, state: Any, before: Tree, weights: Tree, *, key: Array, clock: Clock
    ) -> tuple[Tree, Any]:
        return before, state  # no weight decay moves them
