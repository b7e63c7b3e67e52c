"""The numeric kernel of all methods: exact top-k, straight-through, sampling."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from supermask.inits import fans
from supermask.selection import top_k as top_k  # methods find everything here
from supermask.selection import top_k_signed as top_k_signed
from supermask.types import Array, Tree


def kept_count(density: float, size: int) -> int:
    """How many of `size` weights a density keeps: rounded, at least one."""
    return min(size, max(1, round(density * size)))


def over_layers(select: Callable[[Array, int], Array], values: Tree, k: int) -> Tree:
    """`top_k` or `top_k_signed` of all layers together; ties go to the earlier layer, then to the lower index."""
    chosen = select(jnp.concatenate([v.reshape(-1) for v in values.values()]), k)
    ends = np.cumsum([v.size for v in values.values()])[:-1]
    return {name: part.reshape(values[name].shape) for name, part in zip(values, jnp.split(chosen, ends), strict=True)}


@jax.custom_vjp
def straight_through(hard: Array, soft: Array) -> Array:
    """The value of `hard` (cast to soft's dtype) with the gradient of `soft` (Bengio et al. 2013).

    A rule of its own, because hard + (soft - stop_gradient(soft)) reads `soft` once more in every step for nothing.
    """
    return hard.astype(soft.dtype)


straight_through.defvjp(lambda hard, soft: (hard.astype(soft.dtype), None), lambda _, g: (None, g))


def key_for(key: Array, name: str) -> Array:
    """A key for one parameter, independent of which others exist."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def bernoulli(key: Array, probability: Tree) -> Tree:
    """One independent draw per weight, bool."""
    return {name: jax.random.bernoulli(key_for(key, name), p) for name, p in probability.items()}


def draw_255(key: Array, count: Array) -> Array:
    """Bool draws that are true with probability count / 255; `count` is uint8."""
    return jax.random.bernoulli(key, count.astype(jnp.float32) / 255)


@jax.jit
def uniform_scores(key: Array, weights: Tree) -> Tree:
    """U(-1/sqrt(fan-in), 1/sqrt(fan-in)): Kaiming-uniform with a = sqrt(5), the scores' init of edge-popup."""
    return {
        name: jax.random.uniform(key_for(key, name), w.shape, jnp.float32, -1.0, 1.0) / math.sqrt(fans(w.shape)[0])
        for name, w in weights.items()
    }


def constant_scores(value: float, weights: Tree) -> Tree:
    """The same float32 score everywhere."""
    return {name: jnp.full(w.shape, value, jnp.float32) for name, w in weights.items()}


def logit(density: float) -> float:
    """The score whose sigmoid is `density`; density 1, which has none, is taken as 1 - 1e-6."""
    p = min(density, 1 - 1e-6)
    return math.log(p / (1 - p))


def probabilities(scores: Tree) -> Tree:
    """Sigmoid of the scores in 255ths, uint8: a sampled mask."""
    return {name: jnp.round(jax.nn.sigmoid(s) * 255).astype(jnp.uint8) for name, s in scores.items()}
