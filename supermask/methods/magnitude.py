"""Keeps the weights of largest magnitude; not learned, a baseline."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from supermask.errors import UsageError
from supermask.methods._baseline import Baseline
from supermask.types import Array, InitContext, Recipe, Tree


@dataclass(frozen=True)
class Magnitude(Baseline):
    """Keeps exactly round(density * n) weights, those with the largest |w|.

    Raises:
        UsageError: all magnitudes of a layer are equal (signed-constant), so there is nothing to rank.
    """

    paper: ClassVar[str] = "baseline (`large_init` of Zhou et al. 2019, arXiv 1905.01067)"
    recipe: ClassVar[Recipe] = Recipe(init="kaiming-normal")

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        scores = {name: jnp.abs(jnp.asarray(w)) for name, w in weights.items()}
        for name, score in scores.items():
            least = jnp.where(score == 0, score.max(), score).min()  # zeros are weights that were dropped before
            if (score > 0).sum() > 1 and float(score.max()) == float(least):
                raise UsageError(
                    f"magnitude cannot rank {name}: all its weights have the same magnitude; use --init kaiming-normal"
                )
        return scores
