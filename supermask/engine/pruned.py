"""Weight training of what a mask keeps; the rest is frozen at values that need not be 0."""

from __future__ import annotations

import jax.numpy as jnp

from supermask.core import Parametrization, kept_fraction
from supermask.types import Tree

Frozen = dict[str, Tree]
"""`mask` (bool) and `pruned` (float32: values of the weights that the mask drops), both of the maskable parameters."""


def _filled(weights: Tree, frozen: Frozen) -> Tree:
    mask, pruned = frozen["mask"], frozen["pruned"]
    return weights | {name: jnp.where(mask[name], weights[name], pruned[name]) for name in mask}


pruned_training = Parametrization(
    weights=lambda weights, state, frozen, key, clock: (_filled(weights, frozen), jnp.float32(0)),
    result=lambda weights, state, frozen: _filled(weights, frozen),
    result_weights=lambda weights, frozen, key: weights,
    density=lambda weights, frozen: kept_fraction(frozen["mask"]),
)
"""Its result holds kept and pruned weights, so it is its own effective weights."""
