"""Keeps the weights whose score is above a fixed threshold.

Mallya, Davis, Lazebnik: Piggyback: Adapting a Single Network to Multiple Tasks by Learning to Mask Weights.
ECCV 2018, arXiv 1801.06519. On random weights: Wortsman et al. 2020, arXiv 2006.14769 (threshold 0, uniform scores).
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from supermask import masks
from supermask.errors import UsageError, require
from supermask.methods._controlled import Controlled
from supermask.types import Array, InitContext, Recipe, Tree


@dataclass(frozen=True)
class Piggyback(Controlled):
    """No density is enforced: at the start uniform scores keep half of the weights, constant scores keep all.

    dL/ds = G * W. The defaults suit random weights: Adam at ten times the published rate. The published setting, for
    pretrained weights, is `-o threshold=0.005 -o scores=constant --lr 0.0001`.

    Attributes:
        threshold: a weight is kept if its score is above this.
        scores: initial scores: `uniform` in +-1 / sqrt(fan-in), or `constant` at twice the threshold.
        ternary: a score below 0 flips the sign of its weight.
    """

    threshold: float = 0.0
    scores: str = "uniform"
    ternary: bool = False

    paper: ClassVar[str] = "Mallya et al. 2018, arXiv 1801.06519"
    recipe: ClassVar[Recipe] = Recipe(optimizer="adam", learning_rate=1e-3, weight_decay=0.0, schedule="constant")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.is_controlled and self.ternary:
            raise UsageError("a ternary mask keeps low scores too, with the other sign: leave out control=lagrangian")
        require("scores of piggyback", self.scores, ("uniform", "constant"))
        if self.scores == "constant" and self.threshold <= 0:
            raise UsageError("constant scores start at twice the threshold: give -o threshold=0.005, or any above 0")

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        if self.scores == "constant":
            return masks.constant_scores(2 * self.threshold, weights)
        return masks.uniform_scores(key, weights, context.fans)

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        hard = self.harden(scores, weights)
        return {name: masks.straight_through(hard[name], s) for name, s in scores.items()}

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        if not self.ternary:
            return {name: s > self.threshold for name, s in scores.items()}
        return {
            name: (s > self.threshold).astype(jnp.int8) - ((s < 0) & (s <= self.threshold)).astype(jnp.int8)
            for name, s in scores.items()
        }
