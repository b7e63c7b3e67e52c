"""Continuous mask sigmoid(score / temperature); falling temperature sharpens it into a step.

The annealing follows Savarese, Silva, Maire: Winning the Lottery with Continuous Sparsification,
NeurIPS 2020, arXiv 1912.04427, with frozen weights and in one round.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax

from supermask import masks
from supermask.errors import UsageError, require
from supermask.methods._controlled import Controlled
from supermask.types import Array, InitContext, Recipe, Tree


@dataclass(frozen=True)
class Sigmoid(Controlled):
    """No density is enforced: `density` is the mask's value everywhere at the start.

    The temperature falls exponentially with progress; the gradient is that of the sigmoid itself.

    Attributes:
        temperature: temperature at the start.
        final_temperature: temperature at the end.
        hard: `binary` keeps the weights with positive scores; `continuous` stores the mask at the final temperature
            in the ticket.
    """

    temperature: float = 1.0
    final_temperature: float = 0.005
    hard: str = "binary"

    paper: ClassVar[str] = "Savarese et al. 2020, arXiv 1912.04427 (annealing)"
    recipe: ClassVar[Recipe] = Recipe(optimizer="adam", learning_rate=0.01, weight_decay=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.is_controlled and self.hard == "continuous":
            raise UsageError("a continuous mask keeps every weight: control=lagrangian needs hard=binary")
        require("hard of sigmoid", self.hard, ("binary", "continuous"))
        if not 0 < self.final_temperature <= self.temperature:
            raise UsageError("temperature and final_temperature must be above 0, and the final one must not be higher")

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        return masks.constant_scores(masks.logit(self.start) * self.temperature, weights)

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        return self.expected(scores, progress=progress)

    def expected(self, scores: Tree, *, progress: Array) -> Tree:
        temperature = self.temperature * (self.final_temperature / self.temperature) ** progress
        return {name: jax.nn.sigmoid(s / temperature) for name, s in scores.items()}

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        if self.hard == "binary":
            return {name: s > 0 for name, s in scores.items()}
        return {name: jax.nn.sigmoid(s / self.final_temperature) for name, s in scores.items()}
