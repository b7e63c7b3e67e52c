"""Sums over the devices that share a batch, in one and the same order, whichever processes the devices belong to."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from supermask.nn.fusion import on_its_own
from supermask.runtime import hosts
from supermask.types import Array, Tree


def summed(tree: Any, axis: str) -> Any:
    """Return the sum of each array over a mesh axis; only inside `jax.shard_map`.

    XLA adds up the CPU devices of one process in their order. Between processes it has Gloo add them up, which begins
    at another device for each part of an array and so rounds otherwise; there the order is ours.
    """
    if hosts.processes() == 1 or jax.default_backend() != "cpu":
        return lax.psum(tree, axis)
    return jax.tree.map(lambda array: _in_order(array, axis), tree)


def averaged(tree: Tree, names: Collection[str], axis: str | None) -> Tree:
    """Return a tree with the named arrays replaced by their means over a mesh axis; as it is if there is none."""
    if axis is None or not names:
        return tree
    total = summed({name: tree[name] for name in names}, axis)
    return tree | {name: array / lax.axis_size(axis) for name, array in total.items()}


def _in_order(array: Array, axis: str) -> Array:
    """Each device gets a part of the array from all, adds these up and gives the sum to all."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return lax.psum(array, axis)  # exact in any order

    @jax.custom_vjp
    def total(array: Array) -> Array:
        count = lax.axis_size(axis)
        flat = jnp.pad(array.reshape(-1), (0, -array.size % count)).reshape(count, -1)
        parts = lax.all_to_all(flat, axis, 0, 0)
        found = parts[0]
        for part in parts[1:]:
            found = found + part
        gathered = lax.all_gather(found, axis)
        # What reads the sum is compiled as it is after `psum`; with the slice in its loop, it would round otherwise.
        return on_its_own(lambda parts: parts.reshape(-1)[: array.size].reshape(array.shape), gathered)

    # The derivative of a sum over devices is such a sum, as it is with `lax.psum`.
    total.defvjp(lambda array: (total(array), None), lambda _, slope: (total(slope),))
    return total(array)
