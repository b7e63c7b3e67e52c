"""The scores before the first step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import jax
import jax.numpy as jnp

from supermask.masks.noise import as_vector, key_for
from supermask.types import Array, Tree
from supermask.weights.shapes import fans as fans_by_rank

NO_FANS: Mapping[str, tuple[float, float]] = MappingProxyType({})


Fans = Mapping[str, tuple[float, float]]
"""(fan-in, fan-out) of each parameter, see `types.InitContext`; of those that are left out, as the shape tells."""


def uniform_scores(key: Array, weights: Tree, fans: Fans = NO_FANS) -> Tree:
    """U(-1/sqrt(fan-in), 1/sqrt(fan-in)): Kaiming-uniform with a = sqrt(5), as edge-popup initialises its scores."""
    return {name: _uniform(key, name, w) / math.sqrt(_fans(name, w, fans)[0]) for name, w in weights.items()}


def spread_scores(key: Array, weights: Tree, bound: Callable[[float, float], float], fans: Fans = NO_FANS) -> Tree:
    """U(-b, b) with b = bound(fan-in, fan-out) for each layer."""
    return {name: _uniform(key, name, w) * bound(*_fans(name, w, fans)) for name, w in weights.items()}


def normal_scores(key: Array, weights: Tree, deviation: Callable[[float, float], float], fans: Fans = NO_FANS) -> Tree:
    """N(0, d^2) with d = deviation(fan-in, fan-out) for each layer."""
    return {name: _normal(key, name, w) * deviation(*_fans(name, w, fans)) for name, w in weights.items()}


def _uniform(key: Array, name: str, like: Array) -> Array:
    return as_vector(partial(jax.random.uniform, dtype=jnp.float32, minval=-1.0), key_for(key, name), like.shape)


def _normal(key: Array, name: str, like: Array) -> Array:
    return as_vector(partial(jax.random.normal, dtype=jnp.float32), key_for(key, name), like.shape)


def constant_scores(value: float, weights: Tree) -> Tree:
    """The same float32 score for every weight."""
    return {name: jnp.full(w.shape, value, jnp.float32) for name, w in weights.items()}


def logit(density: float) -> float:
    """The score whose sigmoid is `density`, which is capped at 1 - 1e-6 because no score has a sigmoid of 1."""
    p = min(density, 1 - 1e-6)
    return math.log(p / (1 - p))


def _fans(name: str, weights: Array, fans: Fans) -> tuple[float, float]:
    return fans.get(name) or fans_by_rank(weights.shape)
