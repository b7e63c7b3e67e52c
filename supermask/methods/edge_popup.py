"""Top-k of |score| per layer or over all layers, straight-through.

Ramanujan, Wortsman, Kembhavi, Farhadi, Rastegari: What's Hidden in a Randomly Weighted Neural Network?
CVPR 2020, arXiv 1911.13299. One threshold for all layers: Sreenivasan et al., Rare Gems, 2022, arXiv 2202.12002.
"""

from dataclasses import dataclass
from typing import ClassVar

from supermask import masks
from supermask.errors import require
from supermask.methods._topk import TopK
from supermask.types import Array, InitContext, Recipe, Tree


@dataclass(frozen=True)
class EdgePopup(TopK):
    """Keeps exactly round(density * n) weights, those with the largest |score|.

    The gradient passes through the selection unchanged: dL/ds = G * W * sign(s) for every edge, kept or not
    (Ramanujan et al. 2020, equation 5, with the absolute value that the published results use). `--scale-by-density`
    divides the weights by sqrt(density) as the paper says, on purpose: the published code (`scale_fan`) divides by
    sqrt(1 - density).

    Attributes:
        rank: `magnitude` ranks by |score|, as the published code does; `value` ranks by the signed score, as the
            paper's text says, with dL/ds = G * W.
    """

    rank: str = "magnitude"

    paper: ClassVar[str] = "Ramanujan et al. 2020, arXiv 1911.13299"
    recipe: ClassVar[Recipe] = Recipe()

    def __post_init__(self) -> None:
        super().__post_init__()
        require("rank of edge-popup", self.rank, ("magnitude", "value"))

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        return masks.uniform_scores(key, weights, context.fans)

    @property
    def signed_ranks(self) -> bool:
        return self.rank == "value"
