"""Weight training of what a mask keeps; the rest is frozen at values that need not be 0."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from supermask.core import Parametrization
from supermask.types import Tree

Frozen = dict[str, Any]
"""`mask` (bool, what is trained) and `pruned` (float32, the values of the other weights), both of the maskable
parameters; `density` (float32, the share that is kept, be it trained or not)."""


def frozen_of(kept: Tree, trained: Tree | None = None, values: Tree | None = None) -> Frozen:
    """What is frozen in a training whose result has the mask `kept`.

    Args:
        trained: which weights are trained; those that are kept by default.
        values: of all weights, or more; what is not trained has them, or is 0 by default.
    """
    density = np.float32(sum(mask.sum() for mask in kept.values()) / max(1, sum(mask.size for mask in kept.values())))
    pruned = {name: values[name] if values else np.zeros(mask.shape, np.float32) for name, mask in kept.items()}
    return {"mask": trained or kept, "pruned": pruned, "density": density}


def _filled(weights: Tree, frozen: Frozen) -> Tree:
    mask, pruned = frozen["mask"], frozen["pruned"]
    return weights | {name: jnp.where(mask[name], weights[name], pruned[name]) for name in mask}


pruned_training = Parametrization(
    weights=lambda weights, state, frozen, key, clock: (_filled(weights, frozen), jnp.float32(0)),
    result=lambda weights, state, frozen: _filled(weights, frozen),
    result_weights=lambda weights, frozen, key: weights,
    density=lambda weights, frozen: frozen["density"],
)
"""Its result holds kept and pruned weights, so it is its own effective weights."""
