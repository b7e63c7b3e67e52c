"""Random draws inside a step, made by hashing indices: cheap on every backend."""

from __future__ import annotations

import math
import zlib

import jax
import jax.numpy as jnp
from jax import lax

from supermask.types import Array, Tree


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


def draw_255(key: Array, count: Array) -> Array:
    """Bool draws that are true with probability count / 255; `count` is uint8."""
    return uniform(key, count.shape) < count.astype(jnp.float32) / 255


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
