"""Random bits and permutations that depend on words alone: the same on every machine, for ever."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(*parts: object) -> np.random.Philox:
    """The random bits that these words name, such as a seed and a parameter."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return np.random.Philox(key=int.from_bytes(digest[:16], "little"))


def permuted(values: np.ndarray, bits: np.random.Philox) -> np.ndarray:
    """A random permutation of all entries, in the shape of `values`."""
    flat = values.ravel()
    return flat[permutation(flat.size, bits)].reshape(values.shape)


def permutation(count: int, bits: np.random.Philox) -> np.ndarray:
    """0 to count - 1 in random order."""
    return np.argsort(bits.random_raw(count), kind="stable")
