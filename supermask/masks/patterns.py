"""N:M patterns, and a selection of all layers together."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from supermask.errors import UsageError
from supermask.types import Array, Tree


def over_layers(select: Callable[[Array, Array | int], Array], values: Tree, k: Array | int) -> Tree:
    """`top_k` or `top_k_signed` of all layers together; ties go to the earlier layer, then to the lower index."""
    chosen = select(jnp.concatenate([v.reshape(-1) for v in values.values()]), k)
    ends = np.cumsum([v.size for v in values.values()])[:-1]
    return {name: part.reshape(values[name].shape) for name, part in zip(values, jnp.split(chosen, ends), strict=True)}


def parse_pattern(pattern: str) -> tuple[int, int]:
    """`2:4` -> (2, 4).

    Raises:
        UsageError: it is not N:M with N from 1 to M and M up to 32.
    """
    match = re.fullmatch(r"(\d+):(\d+)", pattern)
    best, group = map(int, match.groups()) if match else (0, 0)
    if not 1 <= best <= group <= 32:
        raise UsageError(f"pattern {pattern!r} is not of the form N:M, with N from 1 to M and M up to 32")
    return best, group


def best_of_groups(values: Array, pattern: str) -> Array:
    """The best N of every M inputs that an output has, bool; ties go to the first.

    Inputs are the rows of the kernel as a matrix (..., in) x out, channels fastest, as a sparse product reads them. Of
    a last group of r < M inputs, N * r / M are kept, rounded up.
    """
    best, group = parse_pattern(pattern)
    rows = values.reshape(-1, values.shape[-1])
    missing = -len(rows) % group
    groups = jnp.pad(rows, ((0, missing), (0, 0)), constant_values=-jnp.inf).reshape(-1, group, rows.shape[1])
    earlier = np.tri(group, k=-1, dtype=bool).T[None, :, :, None]  # [i, j]: i lies before j
    mine, other = groups[:, None], groups[:, :, None]
    beaten = (other > mine) | ((other == mine) & earlier)
    kept = jnp.full((len(groups), 1, 1), best)
    if missing:
        kept = kept.at[-1].set(math.ceil(best * (group - missing) / group))
    chosen = beaten.sum(1) < kept
    return chosen.reshape(-1, rows.shape[1])[: len(rows)].reshape(values.shape)
