"""Each weight kept with probability sigmoid(score), drawn anew in every step.

Zhou, Lan, Liu, Yosinski: Deconstructing Lottery Tickets: Zeros, Signs, and the Supermask.
NeurIPS 2019, arXiv 1905.01067.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax

from supermask import masks
from supermask.errors import UsageError
from supermask.types import Array, Method, Recipe, Tree


@dataclass(frozen=True)
class Bernoulli(Method):
    """No density is enforced: `density` is the probability of being kept at the start.

    Attributes:
        rescale: dynamic weight rescaling (DWR): weights times n / (weights kept), per layer and per draw.
        hard: `sample` leaves probabilities in the ticket, which evaluation draws from, as published;
            `threshold` leaves a binary mask of the weights kept with probability 1/2 or more.
    """

    rescale: bool = True
    hard: str = "sample"

    paper: ClassVar[str] = "Zhou et al. 2019, arXiv 1905.01067"
    recipe: ClassVar[Recipe] = Recipe(learning_rate=100.0, weight_decay=0.0, schedule="cosine", init="glorot-normal")

    def __post_init__(self) -> None:
        if self.hard not in ("sample", "threshold"):
            raise UsageError(f"hard is {self.hard!r}; it must be sample or threshold")

    def init(self, key: Array, weights: Tree) -> Tree:
        return masks.constant_scores(masks.logit(self.density), weights)

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        soft = {name: jax.nn.sigmoid(s) for name, s in scores.items()}
        drawn = masks.bernoulli(key, soft)
        return {name: masks.straight_through(drawn[name], soft[name]) for name in scores}

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        if self.hard == "sample":
            return masks.probabilities(scores)
        return {name: s >= 0 for name, s in scores.items()}

    def transform(self, weights: Tree, mask: Tree) -> Tree:
        if not self.rescale:
            return weights
        # A draw that keeps nothing would divide by zero; its product with the mask is zero whatever the factor.
        return {name: w * (w.size / mask[name].sum().clip(1.0)) for name, w in weights.items()}
