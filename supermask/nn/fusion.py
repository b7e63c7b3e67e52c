"""Keeps XLA's CPU backend from fusing, and LLVM from unrolling, where that makes a program slow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from supermask.types import Array

SHORT_LOOP = 16
"""Turns of a loop that LLVM unrolls before it looks for vectors."""

_OPERATIONS = 128  # in all turns of a loop; LLVM unrolls it up to about 300 instructions, and most have two for each


def on_its_own(f: Callable[[Any], Array], x: Any) -> Array:
    """f(x), on a CPU computed and stored before anything reads it: XLA fuses nothing into or out of a branch there."""
    if jax.default_backend() != "cpu":
        return f(x)
    out = jax.eval_shape(f, x)
    always = lax.optimization_barrier(jnp.bool_(True))
    return lax.cond(always, f, lambda _: jnp.zeros(out.shape, out.dtype), x)


def in_vectors(x: Array) -> Array:
    """`x`, which is finite, so that a loop along its last axis is compiled to vector instructions if it is short.

    LLVM unrolls a short loop before it looks for vectors, and finds none where the loop had a condition, as that of a
    padded array has. A loop that does more in each turn is left as it is, so `x` is written as x + 0 (x + 0 (x + ...)).
    """
    if x.ndim == 0 or not 1 < x.shape[-1] <= SHORT_LOOP:
        return x
    zero, out = jnp.zeros((), x.dtype), x
    for _ in range(_OPERATIONS // x.shape[-1]):
        out = out * zero + x
    return out
