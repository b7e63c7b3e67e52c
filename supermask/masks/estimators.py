"""Hard masks with a gradient, and masks of probabilities."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from supermask.masks.noise import bernoulli
from supermask.types import Array, Tree


@jax.custom_vjp
def straight_through(hard: Array, soft: Array) -> Array:
    """The value of `hard` (cast to soft's dtype) with the gradient of `soft` (Bengio et al. 2013).

    A rule of its own, because hard + (soft - stop_gradient(soft)) reads `soft` once more in every step for nothing.
    """
    return hard.astype(soft.dtype)


straight_through.defvjp(lambda hard, soft: (hard.astype(soft.dtype), None), lambda _, g: (None, g))


def sampled(key: Array, soft: Tree) -> Tree:
    """A draw from the probabilities `soft` with their gradient, straight-through."""
    drawn = bernoulli(key, soft)
    return {name: straight_through(drawn[name], p) for name, p in soft.items()}


def probabilities(scores: Tree) -> Tree:
    """Sigmoid of the scores in 255ths, uint8: a sampled mask."""
    return {name: jnp.round(jax.nn.sigmoid(s) * 255).astype(jnp.uint8) for name, s in scores.items()}
