"""Every edge has K random values with one score each; the value with the highest score is used.

Aladago, Torresani: Slot Machines: Discovering Winning Combinations of Random Weights in Neural Networks.
ICML 2021, arXiv 2101.06475.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from supermask import masks
from supermask.errors import UsageError
from supermask.types import Array, InitContext, Method, Recipe, Tree


@dataclass(frozen=True)
class SlotMachines(Method):
    """Greedy selection. No weight is removed, so every density is 1 and the option `density` has no meaning here.

    The first value of an edge is its frozen weight; the others are drawn from the same layer (`masks.redrawn`). The
    ticket stores the number of the chosen value, counted from 1; 0 is a weight that `--within` drops. Straight-through:
    dL/ds_k = G * w_k for every value, chosen or not.

    Attributes:
        values: K, the number of values per edge, up to 127.
    """

    values: int = 8

    paper: ClassVar[str] = "Aladago & Torresani 2021, arXiv 2101.06475"
    recipe: ClassVar[Recipe] = Recipe(learning_rate=0.2, init="uniform-glorot")

    def __post_init__(self) -> None:
        if not 1 <= self.values <= 127:
            raise UsageError(f"values is {self.values}; it must be from 1 to 127")

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        """float32 (K, ...) from U(0, scale * Glorot deviation); scale is 1 for convolutions, 0.1 for dense layers."""
        scores = {}
        for name, w in weights.items():
            scale = 1.0 if w.ndim > 2 else 0.1
            bound = scale * math.sqrt(2 / sum(context.fans.get(name) or masks.fans(w.shape)))
            scores[name] = bound * jax.random.uniform(masks.key_for(key, name), (self.values, *w.shape))
        return scores

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        """float32 (K, ...): 1 for the chosen value, else 0."""
        return {
            name: masks.straight_through(jax.nn.one_hot(s.argmax(0), self.values, axis=0, dtype=jnp.float32), s)
            for name, s in scores.items()
        }

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        return {name: s.argmax(0).astype(jnp.int8) + jnp.int8(1) for name, s in scores.items()}

    def effective(self, weights: Tree, mask: Tree) -> Tree:
        product = {}
        for name, m in mask.items():
            w = jnp.asarray(weights[name])
            if m.ndim == w.ndim:
                product[name] = jnp.where(jnp.asarray(m) > 0, masks.redrawn(w, m - 1), 0)
            else:
                drawn = (masks.redrawn(w, jnp.full(w.shape, k, jnp.uint32)) * m[k] for k in range(self.values))
                product[name] = sum(drawn, start=jnp.zeros_like(w))
        return product
