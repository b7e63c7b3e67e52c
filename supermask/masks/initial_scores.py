"""The scores before the first step."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from supermask.masks.noise import key_for
from supermask.types import Array, Tree
from supermask.weights.shapes import fans


@jax.jit
def uniform_scores(key: Array, weights: Tree) -> Tree:
    """U(-1/sqrt(fan-in), 1/sqrt(fan-in)): Kaiming-uniform with a = sqrt(5), as edge-popup initialises its scores."""
    return {
        name: jax.random.uniform(key_for(key, name), w.shape, jnp.float32, -1.0, 1.0) / math.sqrt(fans(w.shape)[0])
        for name, w in weights.items()
    }


def spread_scores(key: Array, weights: Tree, bound: Callable[[int, int], float]) -> Tree:
    """U(-b, b) with b = bound(fan-in, fan-out) for each layer."""
    return {
        name: jax.random.uniform(key_for(key, name), w.shape, jnp.float32, -1.0, 1.0) * bound(*fans(w.shape))
        for name, w in weights.items()
    }


def normal_scores(key: Array, weights: Tree, deviation: Callable[[int, int], float]) -> Tree:
    """N(0, d^2) with d = deviation(fan-in, fan-out) for each layer."""
    return {
        name: jax.random.normal(key_for(key, name), w.shape, jnp.float32) * deviation(*fans(w.shape))
        for name, w in weights.items()
    }


def constant_scores(value: float, weights: Tree) -> Tree:
    """The same float32 score for every weight."""
    return {name: jnp.full(w.shape, value, jnp.float32) for name, w in weights.items()}


def logit(density: float) -> float:
    """The score whose sigmoid is `density`, which is capped at 1 - 1e-6 because no score has a sigmoid of 1."""
    p = min(density, 1 - 1e-6)
    return math.log(p / (1 - p))
