"""Stretched, clipped concrete gates under an L0 penalty; a gate is exactly 0 or 1 with positive probability.

Louizos, Welling, Kingma: Learning Sparse Neural Networks through L0 Regularization. ICLR 2018, arXiv 1712.01312.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from supermask import masks
from supermask.errors import UsageError, require
from supermask.methods._controlled import Controlled, total
from supermask.types import Array, Clock, InitContext, Recipe, Tree

_TEMPERATURE, _LOW, _HIGH = 2 / 3, -0.1, 1.1  # beta, gamma, zeta of the paper
_SHIFT = -_TEMPERATURE * math.log(-_LOW / _HIGH)
_SMALLEST = 1e-6  # keeps the uniform noise away from 0 and 1
_BOUND = math.log(100.0)


@dataclass(frozen=True)
class HardConcrete(Controlled):
    """One gate per weight; its score is log alpha. No density is enforced: gates start open to `density`.

    In training z = clip(sigmoid((logit u + s) / beta) * (zeta - gamma) + gamma, 0, 1) with uniform u; the gradient is
    that of the reparametrisation. The penalty is `strength` times the expected number of nonzero gates. The learning
    rate is a hundred times the published one, because the gradient is that much smaller with frozen weights.

    Attributes:
        strength: penalty per weight.
        hard: `continuous` stores clip(sigmoid(s) * (zeta - gamma) + gamma, 0, 1) in the ticket, as published;
            `binary` keeps the weights for which that is 1/2 or more.
        average: share of the old value in a moving average of the scores, which then stands for them in the ticket;
            0.999 in the published code, 0 for none. It starts at 0 and is divided by 1 - average^steps, so that it is a
            mean of scores; in the published code it starts at the first scores and is divided all the same.
    """

    strength: float = 1e-8
    hard: str = "continuous"
    average: float = 0.0

    added: ClassVar[Mapping[str, Any]] = {"average": 0.0}
    paper: ClassVar[str] = "Louizos et al. 2018, arXiv 1712.01312"
    recipe: ClassVar[Recipe] = Recipe(optimizer="adam", learning_rate=0.1, weight_decay=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        require("hard of hard-concrete", self.hard, ("continuous", "binary"))
        if self.strength < 0:
            raise UsageError(f"strength is {self.strength}; it must be 0 or more")
        if not 0 <= self.average < 1:
            raise UsageError(f"average is {self.average}; it must be at least 0 and below 1")
        if self.average and self.is_controlled:
            raise UsageError(
                "control=lagrangian holds the density of the scores, not of their average: leave out average"
            )

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        noise = masks.normal_scores(key, weights, lambda fan_in, fan_out: 0.01)
        return {name: masks.logit(self.start) + s for name, s in noise.items()}

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        noise = masks.uniform_noise(key, scores)
        gates = {}
        for name, u in noise.items():
            u = _SMALLEST + (1 - 2 * _SMALLEST) * u
            gates[name] = _stretched((jnp.log(u) - jnp.log1p(-u) + scores[name]) / _TEMPERATURE)
        return gates

    def init_state(self, scores: Tree, weights: Tree) -> Any:
        """The moving average of the scores, and the weight of the 0 that it started at; {} if there is none."""
        return (
            {"mean": {n: jnp.zeros_like(s) for n, s in scores.items()}, "zero": jnp.float32(1)} if self.average else {}
        )

    def harden(self, scores: Tree, weights: Tree, state: Any = None) -> Tree:
        if state:  # before the first step there is no mean
            share = jnp.where(state["zero"] < 1, 1 - state["zero"], 1)
            scores = {n: jnp.where(state["zero"] < 1, state["mean"][n] / share, s) for n, s in scores.items()}
        gates = {name: _stretched(s) for name, s in scores.items()}
        return gates if self.hard == "continuous" else {name: z >= 0.5 for name, z in gates.items()}

    def penalty(self, scores: Tree, *, progress: Array) -> Array:
        return self.strength * total(self.expected(scores, progress=progress))

    def expected(self, scores: Tree, *, progress: Array) -> Tree:
        """The probability of a gate that is not 0."""
        return {name: jax.nn.sigmoid(s + _SHIFT) for name, s in scores.items()}

    def after_update(
        self, scores: Tree, state: Any, before: Tree, weights: Tree, *, key: Array, clock: Clock
    ) -> tuple[Tree, Any]:
        inside = {name: jnp.clip(s, -_BOUND, _BOUND) for name, s in scores.items()}
        if not state:
            return inside, state
        mean = {n: self.average * state["mean"][n] + (1 - self.average) * s for n, s in inside.items()}
        return inside, {"mean": mean, "zero": self.average * state["zero"]}


def _stretched(logit: Array) -> Array:
    return jnp.clip(jax.nn.sigmoid(logit) * (_HIGH - _LOW) + _LOW, 0, 1)
