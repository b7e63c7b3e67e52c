"""What the shapes of parameters say: which are maskable, their fan-in and fan-out; a fingerprint of weights."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from supermask.types import Shapes, Tree


def maskable(shapes: Shapes) -> Shapes:
    """The parameters that a mask covers: those of two dimensions and more."""
    return {name: shape for name, shape in shapes.items() if len(shape) > 1}


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan-in, fan-out) of a kernel (..., in, out); spatial dimensions multiply both."""
    field = math.prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field


def fingerprint(weights: Tree) -> dict[str, str]:
    """16 hex digits per parameter, of SHA-256 over its little-endian bytes."""
    return {
        name: hashlib.sha256(np.ascontiguousarray(array, "<f4").tobytes()).hexdigest()[:16]
        for name, array in weights.items()
    }
