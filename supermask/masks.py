"""The numeric kernel of all methods: exact top-k without sorting, straight-through, sampling."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from supermask.inits import fans
from supermask.types import Array, Tree


def kept_count(density: float, size: int) -> int:
    """How many of `size` weights a density keeps: rounded, at least one."""
    return min(size, max(1, round(density * size)))


@partial(jax.jit, static_argnums=1)
def top_k(values: Array, k: int) -> Array:
    """The k largest of non-negative float32 `values` (any shape) as a bool array; ties go to the lower index.

    Non-negative floats order like their bit patterns, so the k-th largest is found by bisection on the bits:
    31 counting passes, no sort. Exact for every input without NaN.
    """
    if k >= values.size:
        return jnp.ones(values.shape, bool)
    bits = lax.bitcast_convert_type(values, jnp.int32)
    threshold = _largest(31, lambda t: jnp.sum(bits >= t, dtype=jnp.int32) >= k)
    surplus = jnp.sum(bits >= threshold, dtype=jnp.int32) - k
    return lax.cond(surplus == 0, lambda: bits >= threshold, lambda: _first_ties(bits, threshold, k))


def _first_ties(bits: Array, threshold: Array, k: int) -> Array:
    """Everything above the threshold, and of those equal to it the first ones that fill up k."""
    index = lax.iota(jnp.int32, bits.size).reshape(bits.shape)
    above, equal = bits > threshold, bits == threshold
    missing = k - jnp.sum(above, dtype=jnp.int32)
    # The largest count of leading indices that holds fewer ties than are missing; the next index completes them.
    length = _largest(bits.size.bit_length(), lambda n: jnp.sum(equal & (index < n), dtype=jnp.int32) < missing)
    return above | (equal & (index <= length))


def _largest(bit_count: int, holds: Callable[[Array], Array]) -> Array:
    """The largest int of `bit_count` bits for which a falling predicate holds, by bisection."""

    def bit(i: Array, found: Array) -> Array:
        tried = found | (jnp.int32(1) << (bit_count - 1 - i))
        return jnp.where(holds(tried), tried, found)

    return lax.fori_loop(0, bit_count, bit, jnp.int32(0))


def straight_through(hard: Array, soft: Array) -> Array:
    """The value of `hard` (cast to soft's dtype) with the gradient of `soft` (Bengio et al. 2013).

    The difference is taken first, so that it is exactly zero and the value exactly `hard`.
    """
    return hard.astype(soft.dtype) + (soft - lax.stop_gradient(soft))


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
