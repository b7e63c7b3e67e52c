"""Variants of a criterion that look at signs, too."""

from __future__ import annotations

import numpy as np

from supermask.errors import require

SIGNS = ("any", "same", "diff")


def agree(sign: str, initial: np.ndarray, final: np.ndarray) -> np.ndarray:
    """Where the two signs are as asked for, bool: the same, different, or any. Zero is a sign of its own."""
    require("sign", sign, SIGNS)
    if sign == "any":
        return np.ones(initial.shape, bool)
    same: np.ndarray = np.sign(initial) == np.sign(final)
    return same if sign == "same" else ~same
