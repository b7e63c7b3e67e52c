"""Top-k of |score| per layer or over all layers, straight-through.

Ramanujan, Wortsman, Kembhavi, Farhadi, Rastegari: What's Hidden in a Randomly Weighted Neural Network?
CVPR 2020, arXiv 1911.13299. One threshold for all layers: Sreenivasan et al., Rare Gems, 2022, arXiv 2202.12002.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from supermask import masks
from supermask.errors import require
from supermask.types import Array, Method, Recipe, Tree


@dataclass(frozen=True)
class EdgePopup(Method):
    """Exactly round(density * n) weights are kept, those of largest |score|, in each layer or in all.

    The gradient passes the selection unchanged: dL/ds = G * W * sign(s) for every edge, kept or not
    (Ramanujan et al. 2020, equation 5, with the absolute value that the published results use).

    Attributes:
        rank: `magnitude` ranks by |score|, as the published code; `value` by the signed score, as the paper's text,
            with dL/ds = G * W.
        scope: `layer` keeps the density in every layer; `global` over all layers, so that layers differ.
    """

    rank: str = "magnitude"
    scope: str = "layer"

    paper: ClassVar[str] = "Ramanujan et al. 2020, arXiv 1911.13299"
    recipe: ClassVar[Recipe] = Recipe()

    def __post_init__(self) -> None:
        require("rank of edge-popup", self.rank, ("magnitude", "value"))
        require("scope of edge-popup", self.scope, ("layer", "global"))

    def init(self, key: Array, weights: Tree) -> Tree:
        return masks.uniform_scores(key, weights)

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        hard, soft = self.harden(scores, weights), self._ranked(scores)
        return {name: masks.straight_through(hard[name], soft[name]) for name in scores}

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        select = masks.top_k if self.rank == "magnitude" else masks.top_k_signed
        ranked, density = self._ranked(scores), self.density
        if self.scope == "global":
            return masks.over_layers(select, ranked, masks.kept_count(density, sum(s.size for s in scores.values())))
        return {name: select(s, masks.kept_count(density, s.size)) for name, s in ranked.items()}

    def _ranked(self, scores: Tree) -> Tree:
        return scores if self.rank == "value" else {name: jnp.abs(s) for name, s in scores.items()}
