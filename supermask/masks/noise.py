"""Random numbers inside a step, made by hashing indices, which is cheap on every backend."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from supermask.types import Array, Tree


def key_for(key: Array, name: str) -> Array:
    """The key of one parameter; it does not depend on which other parameters exist."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def as_vector(sample: Callable[[Array, tuple[int, ...]], Array], key: Array, shape: tuple[int, ...]) -> Array:
    """sample(key, shape) of `jax.random`, drawn as a vector: the same numbers, compiled in a third of the time."""
    return sample(key, (math.prod(shape),)).reshape(shape)


def uniform(key: Array, shape: tuple[int, ...]) -> Array:
    """Independent multiples of 2^-24 in [0, 1), as float32.

    Each is the index of its element, combined with a word of the key and hashed, twice. Meant for noise in every step:
    on a CPU it takes a hundredth of the time of `jax.random.uniform`.
    """
    first, second = jax.random.bits(key, (2,), jnp.uint32)
    index = lax.iota(jnp.uint32, math.prod(shape))
    bits = _hash(_hash(index ^ first) + second) >> jnp.uint32(8)
    return (bits.astype(jnp.int32).astype(jnp.float32) * jnp.float32(2**-24)).reshape(shape)


def uniform_noise(key: Array, like: Tree) -> Tree:
    """`uniform` noise for every element of every array in `like`, with a key of its own for each array."""
    return {name: uniform(key_for(key, name), s.shape) for name, s in like.items()}


def normal_noise(key: Array, like: Tree) -> Tree:
    """Standard normal noise, made of `uniform_noise` by the inverse of the normal distribution; within +-5.5."""
    root = jnp.float32(math.sqrt(2))
    return {name: root * lax.erf_inv(2 * above_zero(u) - 1) for name, u in uniform_noise(key, like).items()}


def gumbel(key: Array, shape: tuple[int, ...]) -> Array:
    """Standard Gumbel noise, made of `uniform`; from -2.9 to 16.7."""
    return -jnp.log(-jnp.log(above_zero(uniform(key, shape))))


def above_zero(u: Array) -> Array:
    """`uniform` noise without 0; it has no 1. (A small number added to it would make its largest value 1.)"""
    return jnp.maximum(u, jnp.float32(2**-25))


def bernoulli(key: Array, probability: Tree) -> Tree:
    """Independent bool draws, each true with its own probability."""
    return {name: u < probability[name] for name, u in uniform_noise(key, probability).items()}


def draw_255(key: Array, count: Array) -> Array:
    """Independent bool draws, each true with probability count / 255; `count` is uint8."""
    return uniform(key, count.shape) < count.astype(jnp.float32) / 255


def redrawn(weights: Array, generation: Array) -> Array:
    """Replace each weight by its `generation`-th draw: 0 keeps the weight, others draw anew from its layer.

    A new draw is the weight at the place in the layer that a hash of (index, generation) gives. This samples the
    layer's own weights with replacement, so it has the right distribution for every init and needs no arithmetic that
    could round.

    Args:
        weights: one layer, any shape.
        generation: whole numbers of the same size as `weights`.
    """
    weights = jnp.asarray(weights)
    index = lax.iota(jnp.uint32, weights.size)
    turn = jnp.asarray(generation).reshape(-1).astype(jnp.uint32)
    place = _hash(_hash(index) ^ (turn * jnp.uint32(0x9E3779B9))) % jnp.uint32(weights.size)
    flat = weights.reshape(-1)
    return jnp.where(turn == 0, flat, flat[place.astype(jnp.int32)]).reshape(weights.shape)


def _hash(x: Array) -> Array:
    """A bijection of uint32 in which every bit of the result depends on every bit of x.

    Source: the finaliser of Appleby's MurmurHash3.
    """
    x = (x ^ (x >> jnp.uint32(16))) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> jnp.uint32(13))) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> jnp.uint32(16))
