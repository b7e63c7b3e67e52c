"""A random ranking: the control that every other criterion should beat."""

import hashlib
from dataclasses import dataclass

import numpy as np

from supermask.criteria._criterion import Criterion


@dataclass(frozen=True)
class Random(Criterion):
    """Numbers from a Philox stream whose key is the hash of the layer's initial weights.

    So scores differ from each other, as global ranking needs it, and differ between seeds and layers, but the same
    weights always have the same ones.
    """

    def score(
        self, initial: np.ndarray, final: np.ndarray, alive: np.ndarray, gradient: np.ndarray | None
    ) -> np.ndarray:
        digest = hashlib.sha256(np.ascontiguousarray(initial).tobytes()).digest()[:16]
        words = np.random.Philox(key=int.from_bytes(digest, "little")).random_raw(initial.size)
        return ((words >> np.uint64(11)) * 2.0**-53).reshape(initial.shape)
