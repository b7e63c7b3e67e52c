"""Which weights a seed keeps or removes for good, before a search: the same on every machine, for ever."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from supermask.types import Shapes, Tree
from supermask.weights.streams import stream


def frozen_pattern(seed: int, shapes: Shapes, pruned: float, kept: float) -> Tree:
    """Return int8 arrays: -1 where a weight is removed, 1 where it is kept, 0 where it is searched for.

    Exactly round(share * n) weights of each layer are removed, and as many are kept, at random places.
    """
    pattern = {}
    for name, shape in shapes.items():
        size = math.prod(shape)
        low, high = round(pruned * size), size - round(kept * size)
        words = stream(seed, "frozen", name).random_raw(size)
        order = np.argsort(words, kind="stable")
        flat = np.zeros(size, np.int8)
        flat[order[:low]], flat[order[high:]] = -1, 1
        pattern[name] = flat.reshape(shape)
    return pattern


def pattern_of(config: Any, shapes: Shapes) -> Tree:
    """Return the pattern of a search, by masked parameter; {} if nothing was frozen."""
    pruned, kept = (config.options.get(key, 0) for key in ("freeze_pruned", "freeze_kept"))
    if not all(type(share) in (int, float) and share >= 0 for share in (pruned, kept)):
        return {}  # a user's own method may call something else so
    return frozen_pattern(config.seed, shapes, pruned, kept) if 0 < pruned + kept < 1 else {}
