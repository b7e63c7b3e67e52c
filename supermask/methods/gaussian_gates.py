"""Gates of clipped normal noise under a penalty; the gradient is that of the noise, not straight-through.

Tsayag, Lindenbaum, 2026, arXiv 2603.08914 (we know its abstract). The gates: Yamada, Lindenbaum, Negahban, Kluger:
Feature Selection using Stochastic Gates. ICML 2020, arXiv 1810.04247.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jax.scipy.special import ndtr

from supermask import masks
from supermask.errors import UsageError, require
from supermask.methods._controlled import Controlled, total
from supermask.types import Array, InitContext, Recipe, Tree


@dataclass(frozen=True)
class GaussianGates(Controlled):
    """One gate per weight; its score is mu. No density is enforced: mu starts at `density` everywhere.

    In training z = clip(mu + deviation * eps, 0, 1) with eps from N(0, 1), so dL/dmu = G * W where 0 < z < 1, and 0
    elsewhere. The penalty is `strength` times the expected number of nonzero gates, the sum of Phi(mu / deviation). The
    optimiser and its learning rate are ours.

    Attributes:
        deviation: standard deviation of the noise.
        strength: penalty per weight.
        hard: `continuous` stores clip(mu, 0, 1) in the ticket; `binary` keeps the weights for which mu is 1/2 or more.
    """

    deviation: float = 0.5
    strength: float = 1e-8
    hard: str = "continuous"

    paper: ClassVar[str] = "Tsayag & Lindenbaum 2026, arXiv 2603.08914"
    recipe: ClassVar[Recipe] = Recipe(optimizer="adam", learning_rate=0.01, weight_decay=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        require("hard of gaussian-gates", self.hard, ("continuous", "binary"))
        if self.deviation <= 0 or self.strength < 0:
            raise UsageError(
                f"deviation is {self.deviation:g} and strength {self.strength:g}; they must be above 0, and 0 or more"
            )

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        return masks.constant_scores(self.start, weights)

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        noise = masks.normal_noise(key, scores)
        return {name: jnp.clip(s + self.deviation * noise[name], 0, 1) for name, s in scores.items()}

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        if self.hard == "binary":
            return {name: s >= 0.5 for name, s in scores.items()}
        return {name: jnp.clip(s, 0, 1) for name, s in scores.items()}

    def penalty(self, scores: Tree, *, progress: Array) -> Array:
        return self.strength * total(self.expected(scores, progress=progress))

    def expected(self, scores: Tree, *, progress: Array) -> Tree:
        """The probability of a gate that is not 0."""
        return {name: ndtr(s / self.deviation) for name, s in scores.items()}
