"""Hard masks that have a gradient, and masks of probabilities."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from supermask.masks.noise import bernoulli
from supermask.types import Array, Tree


@jax.custom_vjp
def straight_through(hard: Array, soft: Array) -> Array:
    """The value of `hard`, cast to the dtype of `soft`, with the gradient of `soft` (Bengio et al. 2013).

    It is a custom derivative rule because the usual hard + (soft - stop_gradient(soft)) reads `soft` once more in every
    step, to no effect.
    """
    return hard.astype(soft.dtype)


straight_through.defvjp(lambda hard, soft: (hard.astype(soft.dtype), None), lambda _, g: (None, g))


def sampled(key: Array, soft: Tree) -> Tree:
    """A binary mask drawn from the probabilities `soft`, with a straight-through gradient."""
    drawn = bernoulli(key, soft)
    return {name: straight_through(drawn[name], p) for name, p in soft.items()}


def probabilities(scores: Tree) -> Tree:
    """A sampled mask: the sigmoid of the scores in 255ths, rounded, uint8."""
    return {name: jnp.round(jax.nn.sigmoid(s) * 255).astype(jnp.uint8) for name, s in scores.items()}
