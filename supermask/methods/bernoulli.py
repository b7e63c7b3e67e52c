"""Keeps each weight with probability sigmoid(score), drawn anew in every step.

Zhou, Lan, Liu, Yosinski: Deconstructing Lottery Tickets: Zeros, Signs, and the Supermask.
NeurIPS 2019, arXiv 1905.01067.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from supermask import masks
from supermask.errors import require
from supermask.methods._controlled import Controlled
from supermask.types import Array, InitContext, Recipe, Tree


@dataclass(frozen=True)
class Bernoulli(Controlled):
    """No density is enforced: `density` is the probability of being kept at the start.

    Attributes:
        draw: `sample` draws every mask value; `round` uses, with equal chance, either the rounded probability, which
            passes no gradient, or the probability itself.
        rescale: dynamic weight rescaling (DWR): multiply weights by n / (weights kept), per layer and per draw.
        hard: `sample` stores probabilities in the ticket, and evaluation draws from them, as published for `sample`;
            `threshold` stores a binary mask of the weights kept with probability 1/2 or more, as published for `round`.
            (There, exactly 1/2 rounds to 0, which would keep nothing at the start.)
    """

    draw: str = "sample"
    rescale: bool = True
    hard: str = "sample"

    paper: ClassVar[str] = "Zhou et al. 2019, arXiv 1905.01067"
    recipe: ClassVar[Recipe] = Recipe(learning_rate=100.0, weight_decay=0.0, schedule="cosine", init="glorot-normal")

    def __post_init__(self) -> None:
        super().__post_init__()
        require("draw of bernoulli", self.draw, ("sample", "round"))
        require("hard of bernoulli", self.hard, ("sample", "threshold"))

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        return masks.constant_scores(masks.logit(self.start), weights)

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        soft = {name: jax.nn.sigmoid(s) for name, s in scores.items()}
        if self.draw == "round":
            half = masks.bernoulli(key, masks.constant_scores(0.5, scores))
            return {name: jnp.where(half[name], (p >= 0.5).astype(jnp.float32), p) for name, p in soft.items()}
        return masks.sampled(key, soft)

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        if self.hard == "sample":
            return masks.probabilities(scores)
        return {name: s >= 0 for name, s in scores.items()}

    def expected(self, scores: Tree, *, progress: Array) -> Tree:
        return {name: jax.nn.sigmoid(s) for name, s in scores.items()}

    def effective(self, weights: Tree, mask: Tree) -> Tree:
        product = super().effective(weights, mask)
        if not self.rescale:
            return product
        # A draw that keeps nothing would divide by zero. The factor does not matter then: the product is zero.
        return {name: p * (p.size / mask[name].sum().clip(1.0)) for name, p in product.items()}
