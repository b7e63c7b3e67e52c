"""Top-k of the signed score; from time to time, weights that are not kept are drawn again.

Chijiwa, Yamaguchi, Ida, Umakoshi, Inoue: Pruning Randomly Initialized Neural Networks with Iterative Randomization.
NeurIPS 2021, arXiv 2106.09269.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import lax

from supermask import masks
from supermask.errors import UsageError
from supermask.methods._topk import TopK
from supermask.types import Array, Clock, InitContext, Recipe, Tree

_LAST = 126.0  # the highest generation that still fits an int8 after adding one


@dataclass(frozen=True)
class Iterand(TopK):
    """Every `period` steps, each weight that is not kept is drawn again with probability `rate`.

    The state counts how often each weight was drawn again: its generation. For kept weights the ticket stores the
    generation plus one; their values follow from that and the seed (`masks.redrawn`). dL/ds = G * W, where W is the
    current weight. A round falls after every `period`-th step; in the published code just before it.

    Attributes:
        period: steps between two rounds of redrawing; 300 on CIFAR-10, 1000 on ImageNet.
        rate: probability that a weight is redrawn in a round. With 0 the method is edge-popup with `rank=value`.
    """

    period: int = 300
    rate: float = 0.1

    paper: ClassVar[str] = "Chijiwa et al. 2021, arXiv 2106.09269"
    recipe: ClassVar[Recipe] = Recipe(init="kaiming-uniform")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.period < 1 or not 0 <= self.rate <= 1:
            raise UsageError(f"period is {self.period} and rate {self.rate}; they must be 1 or more, and from 0 to 1")

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        return masks.spread_scores(key, weights, lambda fan_in, fan_out: math.sqrt(6 / fan_in), context.fans)

    def init_state(self, scores: Tree, weights: Tree) -> Tree:
        """The generation of each weight, float32."""
        return {name: jnp.zeros(w.shape, jnp.float32) for name, w in weights.items()}

    @property
    def signed_ranks(self) -> bool:
        return True

    def harden(self, scores: Tree, weights: Tree, state: Tree | None = None) -> Tree:
        kept, generation = super().harden(scores, weights), state or self.init_state(scores, weights)
        return {name: jnp.where(m, generation[name] + 1, 0).astype(jnp.int8) for name, m in kept.items()}

    def effective(self, weights: Tree, mask: Tree, state: Tree | None = None) -> Tree:
        product = {}
        for name, m in mask.items():
            if state is None:  # a hardened mask: the generation plus one
                kept, generation = (jnp.asarray(m) > 0).astype(jnp.float32), (jnp.asarray(m) - 1).clip(0)
            else:
                kept, generation = m, state[name]
            product[name] = masks.redrawn(weights[name], generation) * kept
        return product

    def after_update(
        self, scores: Tree, state: Any, before: Tree, weights: Tree, *, key: Array, clock: Clock
    ) -> tuple[Tree, Any]:
        def draw() -> Tree:
            kept, generations = self.select(self.ranked(scores), self.ahead(clock.progress)), {}
            for name, m in kept.items():
                drawn = (masks.uniform(masks.key_for(key, name), m.shape) < self.rate) & ~m
                generation = state[name]
                generations[name] = jnp.where(drawn & (generation < _LAST), generation + 1, generation)
            return generations

        return scores, lax.cond((clock.step + 1) % self.period == 0, draw, lambda: state)
