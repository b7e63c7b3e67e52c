"""Keep, hide or invert each weight: the sign of the score, or zero where it is small.

Koster, Grothe, Rettinger: Signing the Supermask: Keep, Hide, Invert. ICLR 2022, arXiv 2201.13361.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from supermask import masks
from supermask.errors import UsageError, require
from supermask.methods._controlled import Controlled
from supermask.types import Array, Clock, InitContext, Recipe, Tree
from supermask.weights.shapes import fans


@dataclass(frozen=True)
class Signed(Controlled):
    """mask = sign(s) where |s| is above a threshold, else 0; dL/ds = G * W for every edge.

    The threshold of a layer is `threshold` * max|initial s|, as in the paper, or `tau` for all. The published results
    of FC and ConvN fit an absolute threshold of 0.01, which the authors' code of December 2020 keeps whatever its
    configuration says; that they were made with it is an inference (docs/parity.md).

    No density is enforced and `density` has no meaning here but as a target under control: scores start uniform in the
    Xavier interval, so a share of 1 - threshold is kept at first. A decay outside the optimiser (not multiplied by the
    learning rate, as in tfa.optimizers.SGDW) pulls scores below the threshold unless a gradient holds them up.

    Attributes:
        threshold: c of the paper: 0.4 for FC and ConvN, 0.75 for ResNet20, 0.8 for ResNet56.
        decay: decay of the scores per step.
        tau: an absolute threshold in place of the relative one, if above 0; 0.01 in the code of December 2020.
        decay_schedule: `staircase` multiplies the decay by 0.9 after each tenth of the steps, `step-staircase` by 0.96
            after every 3,900 steps, as the code of December 2020; `--schedule` says the same of the learning rate.
    """

    threshold: float = 0.4
    decay: float = 5e-4
    tau: float = 0.0
    decay_schedule: str = "staircase"

    added: ClassVar[Mapping[str, Any]] = {"tau": 0.0, "decay_schedule": "staircase"}
    signed_ranks: ClassVar[bool] = False
    paper: ClassVar[str] = "Koster et al. 2022, arXiv 2201.13361"
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="nesterov",
        learning_rate=0.05,
        weight_decay=0.0,
        schedule="staircase",
        init="signed-constant-elu",
        activation="elu",
        normalise="image",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.threshold < 1 and 0 <= self.decay < 1):
            raise UsageError(
                f"threshold is {self.threshold} and decay {self.decay}; both must be at least 0 and below 1"
            )
        if self.tau < 0:
            raise UsageError(f"tau is {self.tau}; it must be above 0, or 0 for a threshold relative to the scores")
        require("decay_schedule of signed", self.decay_schedule, ("staircase", "step-staircase"))

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        # Scaled so that the largest |score| is exactly the interval's end: the threshold follows from the shape alone.
        drawn = masks.spread_scores(key, weights, lambda fan_in, fan_out: 1.0)
        return {name: s * (_bound(s.shape) / jnp.abs(s).max()) for name, s in drawn.items()}

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        hard = self.harden(scores, weights)
        return {name: masks.straight_through(hard[name], s) for name, s in scores.items()}

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        return {
            name: jnp.where(jnp.abs(s) > (self.tau or self.threshold * _bound(s.shape)), jnp.sign(s), 0).astype(
                jnp.int8
            )
            for name, s in scores.items()
        }

    def lowered(self, scores: Tree, price: Array) -> Tree:
        """The price is one on the magnitude."""
        return {name: jnp.sign(s) * jnp.maximum(jnp.abs(s) - price, 0) for name, s in scores.items()}

    def after_update(
        self, scores: Tree, state: Any, before: Tree, weights: Tree, *, key: Array, clock: Clock
    ) -> tuple[Tree, Any]:
        if self.decay_schedule == "staircase":
            factor, cuts = 0.9, 10 * clock.step // clock.total_steps
        else:
            factor, cuts = 0.96, clock.step // 3900
        decay = self.decay * jnp.float32(factor) ** cuts.astype(jnp.float32)
        return {name: s - decay * before[name] for name, s in scores.items()}, state


def _bound(shape: tuple[int, ...]) -> float:
    """sqrt(6 / (fan-in + fan-out)): Glorot & Bengio 2010."""
    return math.sqrt(6 / sum(fans(shape)))
