"""N:M patterns, and selecting from all layers together."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax

from supermask.errors import UsageError
from supermask.types import Array, Tree


def over_layers(select: Callable[[Array, Array | int], Array], values: Tree, k: Array | int) -> Tree:
    """Apply `top_k` or `top_k_signed` to all layers together; ties go to the earlier layer, then to the lower index."""
    chosen = select(jnp.concatenate([v.reshape(-1) for v in values.values()]), k)
    ends = np.cumsum([v.size for v in values.values()])[:-1]
    return {name: part.reshape(values[name].shape) for name, part in zip(values, jnp.split(chosen, ends), strict=True)}


def best_first(values: Array, least: int) -> Array:
    """Raise the `least` largest values of each output, (..., out), above all others; ties go to the first.

    It takes `least` passes over the values.
    """
    rows = values.reshape(-1, values.shape[-1])
    place = lax.broadcasted_iota(jnp.int32, rows.shape, 0)

    def raise_one(_: Array, chosen: Array) -> Array:
        best = jnp.where(chosen, -jnp.inf, rows).argmax(0)
        return chosen | (place == best[None].astype(jnp.int32))

    chosen = lax.fori_loop(0, min(least, len(rows)), raise_one, jnp.zeros(rows.shape, bool))
    return jnp.where(chosen, jnp.inf, rows).reshape(values.shape)


def parse_pattern(pattern: str) -> tuple[int, int]:
    """Parse `2:4` into (2, 4).

    Raises:
        UsageError: the pattern is not N:M with N from 1 to M and M at most 32.
    """
    match = re.fullmatch(r"(\d+):(\d+)", pattern)
    best, group = map(int, match.groups()) if match else (0, 0)
    if not 1 <= best <= group <= 32:
        raise UsageError(f"pattern {pattern!r} is not of the form N:M, with N from 1 to M and M at most 32")
    return best, group


def best_of_groups(values: Array, pattern: str) -> Array:
    """Choose the N largest of every M consecutive inputs of each output, as a bool array; ties go to the first.

    The inputs of an output are its column in the kernel reshaped to (... * in, out), with channels varying fastest, as
    a sparse product reads them. If the last group has only r < M inputs, ceil(N * r / M) of them are kept.
    """
    best, group = parse_pattern(pattern)
    rows = values.reshape(-1, values.shape[-1])
    missing = -len(rows) % group
    groups = jnp.pad(rows, ((0, missing), (0, 0)), constant_values=-jnp.inf).reshape(-1, group, rows.shape[1])
    earlier = np.tri(group, k=-1, dtype=bool).T[None, :, :, None]  # [i, j]: i comes before j
    mine, other = groups[:, None], groups[:, :, None]
    beaten = (other > mine) | ((other == mine) & earlier)
    kept = jnp.full((len(groups), 1, 1), best)
    if missing:
        kept = kept.at[-1].set(math.ceil(best * (group - missing) / group))
    chosen = beaten.sum(1) < kept
    return chosen.reshape(-1, rows.shape[1])[: len(rows)].reshape(values.shape)
