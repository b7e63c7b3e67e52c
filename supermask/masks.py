"""The numeric kernel of all methods: exact top-k, straight-through, sampling."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from supermask.allocation import kept_count as kept_count
from supermask.errors import UsageError
from supermask.inits import fans as fans
from supermask.selection import top_k as top_k  # methods find everything here
from supermask.selection import top_k_signed as top_k_signed
from supermask.types import Array, Tree


def over_layers(select: Callable[[Array, Array | int], Array], values: Tree, k: Array | int) -> Tree:
    """`top_k` or `top_k_signed` of all layers together; ties go to the earlier layer, then to the lower index."""
    chosen = select(jnp.concatenate([v.reshape(-1) for v in values.values()]), k)
    ends = np.cumsum([v.size for v in values.values()])[:-1]
    return {name: part.reshape(values[name].shape) for name, part in zip(values, jnp.split(chosen, ends), strict=True)}


def parse_pattern(pattern: str) -> tuple[int, int]:
    """`2:4` -> (2, 4).

    Raises:
        UsageError: it is not N:M with N from 1 to M and M up to 32.
    """
    match = re.fullmatch(r"(\d+):(\d+)", pattern)
    best, group = map(int, match.groups()) if match else (0, 0)
    if not 1 <= best <= group <= 32:
        raise UsageError(f"pattern {pattern!r} is not of the form N:M, with N from 1 to M and M up to 32")
    return best, group


def best_of_groups(values: Array, pattern: str) -> Array:
    """The best N of every M inputs that an output has, bool; ties go to the first.

    Inputs are the rows of the kernel as a matrix (..., in) x out, channels fastest, as a sparse product reads them. Of
    a last group of r < M inputs, N * r / M are kept, rounded up.
    """
    best, group = parse_pattern(pattern)
    rows = values.reshape(-1, values.shape[-1])
    missing = -len(rows) % group
    groups = jnp.pad(rows, ((0, missing), (0, 0)), constant_values=-jnp.inf).reshape(-1, group, rows.shape[1])
    earlier = np.tri(group, k=-1, dtype=bool).T[None, :, :, None]  # [i, j]: i lies before j
    mine, other = groups[:, None], groups[:, :, None]
    beaten = (other > mine) | ((other == mine) & earlier)
    kept = jnp.full((len(groups), 1, 1), best)
    if missing:
        kept = kept.at[-1].set(math.ceil(best * (group - missing) / group))
    chosen = beaten.sum(1) < kept
    return chosen.reshape(-1, rows.shape[1])[: len(rows)].reshape(values.shape)


def redrawn(weights: Array, generation: Array) -> Array:
    """Each weight as its `generation`-th draw: 0 is the weight itself, later ones are independent draws of its layer.

    A draw is the weight at a place that a hash of (index, generation) names, that is, a sample with replacement of the
    distribution that the layer's weights have: exact for every init, without arithmetic that could round.
    """
    weights = jnp.asarray(weights)
    index = lax.iota(jnp.uint32, weights.size)
    turn = jnp.asarray(generation).reshape(-1).astype(jnp.uint32)
    place = _scrambled(_scrambled(index) ^ (turn * jnp.uint32(0x9E3779B9))) % jnp.uint32(weights.size)
    flat = weights.reshape(-1)
    return jnp.where(turn == 0, flat, flat[place.astype(jnp.int32)]).reshape(weights.shape)


def _scrambled(x: Array) -> Array:
    """A bijection of uint32 in which every bit of the result depends on every bit of x (Appleby's MurmurHash3)."""
    x = (x ^ (x >> jnp.uint32(16))) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> jnp.uint32(13))) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> jnp.uint32(16))


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


def uniform(key: Array, shape: tuple[int, ...]) -> Array:
    """Independent multiples of 2^-24 in [0, 1), float32, by hashing the index twice with words of the key in between.

    For noise in every step: a hundredth of the time that `jax.random.uniform` takes on a CPU.
    """
    first, second = jax.random.bits(key, (2,), jnp.uint32)
    index = lax.iota(jnp.uint32, math.prod(shape))
    bits = _scrambled(_scrambled(index ^ first) + second) >> jnp.uint32(8)
    return (bits.astype(jnp.int32).astype(jnp.float32) * jnp.float32(2**-24)).reshape(shape)


def uniform_noise(key: Array, like: Tree) -> Tree:
    """`uniform` for every weight."""
    return {name: uniform(key_for(key, name), s.shape) for name, s in like.items()}


def bernoulli(key: Array, probability: Tree) -> Tree:
    """One independent draw per weight, bool."""
    return {name: u < probability[name] for name, u in uniform_noise(key, probability).items()}


def sampled(key: Array, soft: Tree) -> Tree:
    """A draw from the probabilities `soft` with their gradient, straight-through."""
    drawn = bernoulli(key, soft)
    return {name: straight_through(drawn[name], p) for name, p in soft.items()}


def draw_255(key: Array, count: Array) -> Array:
    """Bool draws that are true with probability count / 255; `count` is uint8."""
    return uniform(key, count.shape) < count.astype(jnp.float32) / 255


@jax.jit
def uniform_scores(key: Array, weights: Tree) -> Tree:
    """U(-1/sqrt(fan-in), 1/sqrt(fan-in)): Kaiming-uniform with a = sqrt(5), the scores' init of edge-popup."""
    return {
        name: jax.random.uniform(key_for(key, name), w.shape, jnp.float32, -1.0, 1.0) / math.sqrt(fans(w.shape)[0])
        for name, w in weights.items()
    }


def spread_scores(key: Array, weights: Tree, bound: Callable[[int, int], float]) -> Tree:
    """U(-b, b) with b = bound(fan-in, fan-out) of each layer."""
    return {
        name: jax.random.uniform(key_for(key, name), w.shape, jnp.float32, -1.0, 1.0) * bound(*fans(w.shape))
        for name, w in weights.items()
    }


def normal_scores(key: Array, weights: Tree, deviation: Callable[[int, int], float]) -> Tree:
    """N(0, d^2) with d = deviation(fan-in, fan-out) of each layer."""
    return {
        name: jax.random.normal(key_for(key, name), w.shape, jnp.float32) * deviation(*fans(w.shape))
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
