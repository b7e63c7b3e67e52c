"""A sigmoid mask that sharpens into a step while an L1 penalty pushes it down.

Savarese, Silva, Maire: Winning the Lottery with Continuous Sparsification. NeurIPS 2020, arXiv 1912.04427.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from supermask import masks
from supermask.errors import UsageError, require
from supermask.methods._controlled import Controlled, total
from supermask.types import Array, Clock, InitContext, Recipe, Tree


@dataclass(frozen=True)
class ContinuousSparsification(Controlled):
    """The mask is sigmoid(beta * s) / sigmoid(s0); beta rises exponentially from 1 to `final_beta` in each round.

    No density is enforced. At the start the sigmoid equals `density` everywhere, which determines s0; a lower value
    gives sparser masks. The ticket keeps the weights with positive scores, divided by sigmoid(s0) as in training.
    Between two rounds the scores become min(beta * s, s0) and the optimiser's moments are reset; the published code
    keeps them (`moments=kept`) and restarts the learning rate (`--cycles`, the number of rounds).

    The published recipe trains the weights too, with SGD at 0.1. With frozen weights that leaves the scores too small
    for the last beta to harden them, so the recipe here is Adam at 0.01.

    Attributes:
        final_beta: beta at the end of each round.
        strength: factor of the penalty, which is the sum of the mask.
        rounds: number of rounds that the epochs are divided into; 3 in the paper, 1 here because no weights are trained
            in between.
        temperature: beta changes in each `step`, or, as published, in each `epoch`: it is final_beta^(e / (E - 1)) in
            epoch e = 0 ... E - 1 of a round.
        moments: between two rounds the optimiser's moments are `fresh` or, as published, `kept`.
    """

    final_beta: float = 200.0
    strength: float = 1e-8
    rounds: int = 1
    temperature: str = "step"
    moments: str = "fresh"

    added: ClassVar[Mapping[str, Any]] = {"temperature": "step", "moments": "fresh"}
    paper: ClassVar[str] = "Savarese et al. 2020, arXiv 1912.04427"
    recipe: ClassVar[Recipe] = Recipe(optimizer="adam", learning_rate=0.01, weight_decay=0.0, init="glorot-normal")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.final_beta < 1 or self.strength < 0 or self.rounds < 1:
            raise UsageError("final_beta and rounds must be 1 or more, strength 0 or more")
        require("temperature of continuous-sparsification", self.temperature, ("step", "epoch"))
        require("moments of continuous-sparsification", self.moments, ("fresh", "kept"))
        if self.is_controlled and self.temperature == "epoch":
            raise UsageError(
                "control=lagrangian follows a temperature that falls in each step: leave out temperature=epoch"
            )

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        return masks.constant_scores(masks.logit(self.start), weights)

    def init_state(self, scores: Tree, weights: Tree) -> Any:
        """This epoch's beta; {} if it follows from the progress."""
        return {} if self.temperature == "step" else {"beta": jnp.float32(1)}

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array, state: Any = None) -> Tree:
        beta = state["beta"] if state else self._beta(progress)
        return {name: jax.nn.sigmoid(beta * s) for name, s in scores.items()}

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        return {name: s > 0 for name, s in scores.items()}

    def expected(self, scores: Tree, *, progress: Array) -> Tree:
        beta = self._beta(progress)
        return {name: jax.nn.sigmoid(beta * s) for name, s in scores.items()}

    def effective(self, weights: Tree, mask: Tree) -> Tree:
        return {name: weights[name] * (mask[name] / self.start) for name in mask}

    def penalty(self, scores: Tree, *, progress: Array, state: Any = None) -> Array:
        beta = state["beta"] if state else self._beta(progress)
        return self.strength / self.start * total({name: jax.nn.sigmoid(beta * s) for name, s in scores.items()})

    def _beta(self, progress: Array) -> Array:
        within = progress * self.rounds
        within = within - jnp.minimum(jnp.floor(within), self.rounds - 1)
        return jnp.float32(self.final_beta) ** within

    def after_update(
        self, scores: Tree, state: Any, before: Tree, weights: Tree, *, key: Array, clock: Clock
    ) -> tuple[Tree, Any]:
        state = {"beta": self._beta_of_epoch(clock)} if state else state
        if self.rounds == 1:
            return scores, state
        start = masks.logit(self.start)
        reset = {name: jnp.minimum(self.final_beta * s, start) for name, s in scores.items()}
        return lax.cond(self._ends_round(clock), lambda: reset, lambda: scores), state

    def resets_optimizer(self, clock: Clock) -> Array | bool:
        return False if self.rounds == 1 or self.moments == "kept" else self._ends_round(clock)

    def _beta_of_epoch(self, clock: Clock) -> Array:
        """The beta of the next step, in rounds that end with epochs."""
        epochs, epoch = clock.total_steps // clock.steps_per_epoch, clock.epochs_done
        number = epoch * self.rounds // epochs
        first, after = (-(-r * epochs // self.rounds) for r in (number, number + 1))
        return jnp.float32(self.final_beta) ** ((epoch - first) / jnp.maximum(after - first - 1, 1))

    def _ends_round(self, clock: Clock) -> Array:
        done, total = clock.step + 1, clock.total_steps
        ends = done * self.rounds // total > clock.step * self.rounds // total
        if self.temperature == "epoch":
            epochs, epoch = total // clock.steps_per_epoch, clock.epochs_done
            ends = clock.ends_epoch() & (epoch * self.rounds // epochs > (epoch - 1) * self.rounds // epochs)
        return ends & (done < total)
