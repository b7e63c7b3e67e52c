"""Hardened masks, of any kind: see `Method.harden`."""

from __future__ import annotations

import jax.numpy as jnp

from supermask.masks.noise import draw_255, key_for
from supermask.types import Array, Tree


def realise(mask: Tree, key: Array) -> Tree:
    """Turn a hardened mask into float32 factors: draw from a sampled mask (uint8, 255ths), cast any other."""
    return {
        name: (draw_255(key_for(key, name), m) if m.dtype == jnp.uint8 else m).astype(jnp.float32)
        for name, m in mask.items()
    }


def kept_fraction(mask: Tree) -> Array:
    """The share of weights that are kept; of a sampled mask, the expected share."""
    kept = jnp.float32(0)
    for array in mask.values():
        expected = array.astype(jnp.float32) / 255 if array.dtype == jnp.uint8 else (array != 0).astype(jnp.float32)
        kept += jnp.sum(expected)
    return kept / sum(array.size for array in mask.values())
