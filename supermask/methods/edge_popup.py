"""Per-layer top-k of |score|, straight-through.

Ramanujan, Wortsman, Kembhavi, Farhadi, Rastegari: What's Hidden in a Randomly Weighted Neural Network?
CVPR 2020, arXiv 1911.13299.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from supermask import masks
from supermask.types import Array, Method, Recipe, Tree


@dataclass(frozen=True)
class EdgePopup(Method):
    """Each layer keeps exactly round(density * n) weights, those of largest |score|.

    The gradient passes the selection unchanged: dL/ds = G * W * sign(s) for every edge, kept or not
    (Ramanujan et al. 2020, equation 5, with the absolute value that the published results use).
    """

    paper: ClassVar[str] = "Ramanujan et al. 2020, arXiv 1911.13299"
    recipe: ClassVar[Recipe] = Recipe()

    def init(self, key: Array, weights: Tree) -> Tree:
        return masks.uniform_scores(key, weights)

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        hard = self.harden(scores, weights)
        return {name: masks.straight_through(hard[name], jnp.abs(s)) for name, s in scores.items()}

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        return {name: masks.top_k(jnp.abs(s), masks.kept_count(self.density, s.size)) for name, s in scores.items()}
