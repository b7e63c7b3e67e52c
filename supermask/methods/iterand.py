"""Top-k of the signed score, and weights that are not kept are drawn again now and then.

Chijiwa, Yamaguchi, Ida, Umakoshi, Inoue: Pruning Randomly Initialized Neural Networks with Iterative Randomization.
NeurIPS 2021, arXiv 2106.09269.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jax import lax

from supermask import masks
from supermask.errors import UsageError
from supermask.methods._topk import TopK
from supermask.types import Array, Clock, Recipe, Tree

_LAST = 126.0  # the generation that still fits an int8 after adding one
_SUFFIX = ":generation"


@dataclass(frozen=True)
class Iterand(TopK):
    """Every `period` steps each weight that is not kept is drawn again with probability `rate`.

    How often a weight was drawn, its generation, is carried beside the scores and left in the ticket, plus one, for the
    kept weights: with that and the seed their values are known (`masks.redrawn`). dL/ds = G * W with the weight as it
    is now.

    Attributes:
        period: steps between two events; 300 on CIFAR-10, 1000 on ImageNet.
        rate: probability of a new draw at an event. 0 is edge-popup by value.
    """

    period: int = 300
    rate: float = 0.1

    paper: ClassVar[str] = "Chijiwa et al. 2021, arXiv 2106.09269"
    recipe: ClassVar[Recipe] = Recipe(init="kaiming-uniform")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.period < 1 or not 0 <= self.rate <= 1:
            raise UsageError(f"period is {self.period} and rate {self.rate}; they must be 1 or more, and from 0 to 1")

    def init(self, key: Array, weights: Tree) -> Tree:
        scores = masks.spread_scores(key, weights, lambda fan_in, fan_out: math.sqrt(6 / fan_in))
        return scores | {name + _SUFFIX: jnp.zeros(w.shape, jnp.float32) for name, w in weights.items()}

    def ranked(self, scores: Tree) -> Tree:
        return {name: s for name, s in scores.items() if not name.endswith(_SUFFIX)}

    @property
    def below_zero(self) -> bool:
        return True

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        """float32 (2, ...): the mask, and the generations of all weights."""
        kept = super().mask(scores, weights, key=key, progress=progress)
        return {name: jnp.stack([m, scores[name + _SUFFIX]]) for name, m in kept.items()}

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        kept = super().harden(scores, weights)
        return {name: jnp.where(m, scores[name + _SUFFIX] + 1, 0).astype(jnp.int8) for name, m in kept.items()}

    def effective(self, weights: Tree, mask: Tree) -> Tree:
        product = {}
        for name, m in mask.items():
            m = jnp.asarray(m)
            if m.ndim > weights[name].ndim:
                kept, generation = m[0], lax.stop_gradient(m[1])
            else:
                kept, generation = (m > 0).astype(jnp.float32), (m - 1).clip(0)
            product[name] = masks.redrawn(weights[name], generation) * kept
        return product

    def settle(self, scores: Tree, before: Tree, weights: Tree, *, key: Array, clock: Clock) -> Tree:
        def draw() -> Tree:
            kept, carried = self.select(self.ranked(scores), self.ahead(clock.progress)), {}
            for name, m in kept.items():
                drawn = (masks.uniform(masks.key_for(key, name), m.shape) < self.rate) & ~m
                generation = scores[name + _SUFFIX]
                carried[name + _SUFFIX] = jnp.where(drawn & (generation < _LAST), generation + 1, generation)
            return carried

        old = {name: a for name, a in scores.items() if name.endswith(_SUFFIX)}
        return scores | lax.cond((clock.step + 1) % self.period == 0, draw, lambda: old)
