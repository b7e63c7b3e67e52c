"""Sparse parity: whether the sum of K fixed bits out of N is odd, as `parity:N,K`; parity:20,3 if left out.

Barak et al. 2022, arXiv 2207.08799; Merrill et al. 2023, arXiv 2303.11873.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from supermask.datasets._sequences import Bits, below, sequences, split_of, whole_numbers
from supermask.errors import UsageError
from supermask.types import Dataset, Split
from supermask.weights.streams import permutation, stream

INPUTS = "tokens"
EPOCHS = 30
AUGMENT = "none"


def load(data_dir: Path, argument: str = "") -> Dataset:
    """Sequences of N random bits and `=`; the parity of the same K bits follows, which ones is drawn once.

    Raises:
        UsageError: N is no whole number from 4 to 256, or K is none from 1 to N.
    """
    n, k = whole_numbers("parity", argument, "20,3", [("n", 4, 256), ("k", 1, 256)])
    if k > n:
        raise UsageError(f"dataset parity:{argument}: k is {k}; it must be at most n, which is {n}")
    chosen = permutation(n, stream("parity", n, k))[:k]

    def draw(bits: Bits, count: int) -> np.ndarray:
        return below(bits, 2, count, n)

    def split(rows: np.ndarray) -> Split:
        equals = np.full((len(rows), 1), 2, np.int32)
        return Split(np.concatenate([rows, equals], axis=1), (rows[:, chosen].sum(axis=1) % 2).astype(np.int32))

    train, test = map(split, split_of(f"parity:{n},{k}", draw))
    return sequences(train, test, ("0", "1", "="))
