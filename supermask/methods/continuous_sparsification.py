"""A sigmoid mask that sharpens into a step while an L1 penalty pushes it down.

Savarese, Silva, Maire: Winning the Lottery with Continuous Sparsification. NeurIPS 2020, arXiv 1912.04427.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from supermask import masks
from supermask.errors import UsageError
from supermask.methods._controlled import Controlled
from supermask.types import Array, Clock, InitContext, Recipe, Tree


@dataclass(frozen=True)
class ContinuousSparsification(Controlled):
    """The mask is sigmoid(beta * s) / sigmoid(s0); beta rises exponentially from 1 to `final_beta` in each round.

    No density is enforced. At the start the sigmoid equals `density` everywhere, which determines s0; a lower value
    gives sparser masks. The ticket keeps the weights with positive scores, divided by sigmoid(s0) as in training.
    Between two rounds the scores become min(beta * s, s0) and the optimiser is reset.

    The published recipe trains the weights too, with SGD at 0.1. With frozen weights that leaves the scores too small
    for the last beta to harden them, so the recipe here is Adam at 0.01.

    Attributes:
        final_beta: beta at the end of each round.
        strength: factor of the penalty, which is the sum of the mask.
        rounds: number of rounds that the epochs are divided into; 3 in the paper, 1 here because no weights are trained
            in between.
    """

    final_beta: float = 200.0
    strength: float = 1e-8
    rounds: int = 1

    paper: ClassVar[str] = "Savarese et al. 2020, arXiv 1912.04427"
    recipe: ClassVar[Recipe] = Recipe(optimizer="adam", learning_rate=0.01, weight_decay=0.0, init="glorot-normal")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.final_beta < 1 or self.strength < 0 or self.rounds < 1:
            raise UsageError("final_beta and rounds must be 1 or more, strength 0 or more")

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        return masks.constant_scores(masks.logit(self.start), weights)

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        beta = self._beta(progress)
        return {name: jax.nn.sigmoid(beta * s) for name, s in scores.items()}

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        return {name: s > 0 for name, s in scores.items()}

    def expected(self, scores: Tree, *, progress: Array) -> Tree:
        beta = self._beta(progress)
        return {name: jax.nn.sigmoid(beta * s) for name, s in scores.items()}

    def effective(self, weights: Tree, mask: Tree) -> Tree:
        return {name: weights[name] * (mask[name] / self.start) for name in mask}

    def penalty(self, scores: Tree, *, progress: Array) -> Array:
        beta = self._beta(progress)
        kept = sum((jax.nn.sigmoid(beta * s).sum() for s in scores.values()), jnp.float32(0))
        return self.strength / self.start * kept

    def _beta(self, progress: Array) -> Array:
        within = progress * self.rounds
        within = within - jnp.minimum(jnp.floor(within), self.rounds - 1)
        return jnp.float32(self.final_beta) ** within

    def after_update(
        self, scores: Tree, state: Any, before: Tree, weights: Tree, *, key: Array, clock: Clock
    ) -> tuple[Tree, Any]:
        if self.rounds == 1:
            return scores, state
        start = masks.logit(self.start)
        reset = {name: jnp.minimum(self.final_beta * s, start) for name, s in scores.items()}
        return lax.cond(self.resets_optimizer(clock), lambda: reset, lambda: scores), state

    def resets_optimizer(self, clock: Clock) -> Array | bool:
        if self.rounds == 1:
            return False
        ends = (clock.step + 1) * self.rounds // clock.total_steps > clock.step * self.rounds // clock.total_steps
        return ends & (clock.step + 1 < clock.total_steps)
