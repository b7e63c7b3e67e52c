"""The fan-in and fan-out of a kernel as its shape tells them, and the fingerprint of weights."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from supermask.types import Tree


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan-in, fan-out) of a kernel of shape (..., in, out); both are multiplied by the spatial dimensions."""
    field = math.prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field


def fingerprint(weights: Tree) -> dict[str, str]:
    """For each parameter, the first 16 hex digits of the SHA-256 of its values as little-endian float32."""
    return {
        name: hashlib.sha256(np.ascontiguousarray(array, "<f4").tobytes()).hexdigest()[:16]
        for name, array in weights.items()
    }
