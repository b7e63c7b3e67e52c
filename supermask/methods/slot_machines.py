"""Every edge has K random values with one score each; the value with the highest score is used.

Aladago, Torresani: Slot Machines: Discovering Winning Combinations of Random Weights in Neural Networks.
ICML 2021, arXiv 2101.06475.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from supermask import masks
from supermask.errors import UsageError, require
from supermask.nn.fusion import on_its_own
from supermask.types import Array, InitContext, Method, Recipe, Tree

_FEW = 8  # values; with 16 a chain takes 1.6 times as long as an argmax


@dataclass(frozen=True)
class SlotMachines(Method):
    """No weight is removed, so every density is 1 and the option `density` has no meaning here.

    The first value of an edge is its frozen weight; the others are drawn from the same layer (`masks.redrawn`). The
    ticket stores the number of the chosen value, counted from 1; 0 is a weight that `--within` drops. Straight-through:
    dL/ds_k = G * w_k for every value, chosen or not.

    Attributes:
        values: K, the number of values per edge, up to 127.
        select: `greedy` uses the value with the highest score; `probabilistic` draws one in each step with the softmax
            of the scores as probabilities (published with learning rates of 25 and more); the ticket is greedy.
        scores: first scores: `glorot` draws from U(0, sqrt(6 / (fan-in + fan-out))) in every layer, as the published
            code; `text` from U(0, c * sqrt(2 / (fan-in + fan-out))), c = 1 for convolutions and 0.1 for dense layers.
    """

    values: int = 8
    select: str = "greedy"
    scores: str = "glorot"

    added: ClassVar[Mapping[str, Any]] = {"select": "greedy", "scores": "text"}
    paper: ClassVar[str] = "Aladago & Torresani 2021, arXiv 2101.06475"
    recipe: ClassVar[Recipe] = Recipe(weight_decay=0.0, schedule="constant", init="glorot-uniform")

    def __post_init__(self) -> None:
        if not 1 <= self.values <= 127:
            raise UsageError(f"values is {self.values}; it must be from 1 to 127")
        require("select of slot-machines", self.select, ("greedy", "probabilistic"))
        require("scores of slot-machines", self.scores, ("glorot", "text"))

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        """float32 (K, ...)."""
        scores = {}
        for name, w in weights.items():
            fans = sum(context.fans.get(name) or masks.fans(w.shape))
            scale = 1.0 if w.ndim > 2 else 0.1
            bound = math.sqrt(6 / fans) if self.scores == "glorot" else scale * math.sqrt(2 / fans)
            scores[name] = bound * masks.as_vector(
                jax.random.uniform, masks.key_for(key, name), (self.values, *w.shape)
            )
        return scores

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        """float32 (K, ...): 1 for the chosen value, else 0."""
        found = {}
        for name, s in scores.items():
            # The highest of scores with Gumbel noise is a draw with the softmax of the scores as probabilities.
            ranked = s if self.select == "greedy" else s + masks.gumbel(masks.key_for(key, name), s.shape)
            chosen = jax.nn.one_hot(_first_highest(ranked), self.values, axis=0, dtype=jnp.float32)
            found[name] = masks.straight_through(chosen, s)
        return found

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        return {name: s.argmax(0).astype(jnp.int8) + jnp.int8(1) for name, s in scores.items()}

    def effective(self, weights: Tree, mask: Tree) -> Tree:
        product = {}
        for name, m in mask.items():
            w = jnp.asarray(weights[name])
            if m.ndim == w.ndim:
                product[name] = jnp.where(jnp.asarray(m) > 0, masks.redrawn(w, m - 1), 0)
            else:
                product[name] = _chosen(w, m)
        return product


def _first_highest(ranked: Array) -> Array:
    """The number of the first of the highest of K, int8, for (K, ...).

    For a few as a chain of comparisons, because XLA fuses no `argmax` into what reads it. It compares anew in each
    place, so that a long chain takes longer.
    """
    if len(ranked) > _FEW:
        return ranked.argmax(0).astype(jnp.int8)
    highest, number = ranked[0], jnp.zeros(ranked.shape[1:], jnp.int8)
    for k in range(1, len(ranked)):
        number = jnp.where(ranked[k] > highest, jnp.int8(k), number)
        highest = jnp.maximum(ranked[k], highest)
    return number


@jax.custom_vjp
def _chosen(weights: Array, mask: Array) -> Array:
    """The sum of the K values of each edge, times `mask` (K, ...).

    The gradient that JAX makes of a sum of slices is a sum of padded arrays. Weights are frozen and have none.
    """
    found = sum(value * m for value, m in zip(_values(weights, len(mask)), mask, strict=True))
    return on_its_own(lambda chosen: chosen, found)  # a network may read it twice, and XLA would compare anew for each


def _values(weights: Array, count: int) -> list[Array]:
    return [masks.redrawn(weights, jnp.full(weights.shape, k, jnp.uint32)) for k in range(count)]


def _chosen_forward(weights: Array, mask: Array) -> tuple[Array, tuple[Array, Array]]:
    return _chosen(weights, mask), (weights, mask)


def _chosen_backward(residuals: tuple[Array, Array], g: Array) -> tuple[None, Array]:
    weights, mask = residuals
    return None, jnp.stack([g * value for value in _values(weights, len(mask))])


_chosen.defvjp(_chosen_forward, _chosen_backward)
