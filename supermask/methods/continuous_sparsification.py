"""A sigmoid that sharpens into a step while an L1 penalty pushes it down.

Savarese, Silva, Maire: Winning the Lottery with Continuous Sparsification. NeurIPS 2020, arXiv 1912.04427.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from supermask import masks
from supermask.errors import UsageError
from supermask.types import Array, Clock, InitContext, Method, Recipe, Tree


@dataclass(frozen=True)
class ContinuousSparsification(Method):
    """The mask is sigmoid(beta * s) / sigmoid(s0); beta rises exponentially from 1 to `final_beta` in each round.

    No density is enforced: the sigmoid is `density` everywhere at the start, which gives s0; the lower, the sparser.
    The ticket keeps the weights of positive score, divided by sigmoid(s0) as in training. Between two rounds scores
    become min(beta * s, s0) and the optimiser starts anew.

    The published recipe trains the weights too, by SGD at 0.1. Over frozen weights that leaves scores too small for the
    last beta to harden them, so that here it is Adam at 0.01.

    Attributes:
        final_beta: at the end of each round.
        strength: of the penalty, the sum of the mask.
        rounds: into how many the epochs are divided; published 3, 1 here, where no weights are trained in between.
    """

    final_beta: float = 200.0
    strength: float = 1e-8
    rounds: int = 1

    paper: ClassVar[str] = "Savarese et al. 2020, arXiv 1912.04427"
    recipe: ClassVar[Recipe] = Recipe(optimizer="adam", learning_rate=0.01, weight_decay=0.0, init="glorot-normal")

    def __post_init__(self) -> None:
        if self.final_beta < 1 or self.strength < 0 or self.rounds < 1:
            raise UsageError("final_beta and rounds must be 1 or more, strength 0 or more")

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        return masks.constant_scores(masks.logit(self.density), weights)

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        beta = self._beta(progress)
        return {name: jax.nn.sigmoid(beta * s) for name, s in scores.items()}

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        return {name: s > 0 for name, s in scores.items()}

    def effective(self, weights: Tree, mask: Tree) -> Tree:
        return {name: weights[name] * (mask[name] / self.density) for name in mask}

    def penalty(self, scores: Tree, *, progress: Array) -> Array:
        beta = self._beta(progress)
        kept = sum((jax.nn.sigmoid(beta * s).sum() for s in scores.values()), jnp.float32(0))
        return self.strength / self.density * kept

    def _beta(self, progress: Array) -> Array:
        within = progress * self.rounds
        within = within - jnp.minimum(jnp.floor(within), self.rounds - 1)
        return jnp.float32(self.final_beta) ** within

    def after_update(
        self, scores: Tree, state: Any, before: Tree, weights: Tree, *, key: Array, clock: Clock
    ) -> tuple[Tree, Any]:
        if self.rounds == 1:
            return scores, state
        start = masks.logit(self.density)
        reset = {name: jnp.minimum(self.final_beta * s, start) for name, s in scores.items()}
        return lax.cond(self.resets_optimizer(clock), lambda: reset, lambda: scores), state

    def resets_optimizer(self, clock: Clock) -> Array | bool:
        if self.rounds == 1:
            return False
        ends = (clock.step + 1) * self.rounds // clock.total_steps > clock.step * self.rounds // clock.total_steps
        return ends & (clock.step + 1 < clock.total_steps)
