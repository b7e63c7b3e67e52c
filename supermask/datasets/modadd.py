"""Modular addition: a b = c with c = (a + b) mod P, `modadd:P` (59 if left out); half of the pairs are for training.

The task of the grokking papers: Power et al. 2022, arXiv 2201.02177; Nanda et al. 2023, arXiv 2301.05217.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from supermask.datasets._sequences import sequences, whole_numbers
from supermask.types import Dataset, Split
from supermask.weights.streams import permutation, stream

INPUTS = "tokens"
EPOCHS = 500
AUGMENT = "none"


def load(data_dir: Path, argument: str = "") -> Dataset:
    """All pairs in a fixed random order: the first half for training, a tenth for validation, the rest for the test.

    The floor `swapped` is what remembering gives to whoever knows that a + b = b + a, and guesses all else.

    Raises:
        UsageError: P is no whole number from 3 to 1000.
    """
    (p,) = whole_numbers("modadd", argument, "59", [("p", 3, 1000)])
    pairs = np.stack(np.divmod(permutation(p * p, stream("modadd", p)), p), axis=1).astype(np.int32)
    half, tenth = len(pairs) // 2, max(1, len(pairs) // 10)
    train, validation, test = (_split(part, p) for part in np.split(pairs, [half, half + tenth]))
    known = np.zeros((p, p), bool)
    known[pairs[:half, 1], pairs[:half, 0]] = True

    def floors(split: Split) -> Mapping[str, float]:
        share = float(known[split.inputs[:, 0], split.inputs[:, 1]].mean())
        return {"swapped": share + (1 - share) / p}

    return sequences(train, test, [*map(str, range(p)), "="], floors=floors, validation=validation)


def _split(pairs: np.ndarray, p: int) -> Split:
    equals = np.full((len(pairs), 1), p, np.int32)
    return Split(np.concatenate([pairs, equals], axis=1), (pairs.sum(axis=1) % p).astype(np.int32))
