"""Associative recall: N pairs of key and value, then one of the keys; its value follows. `recall:N`, 8 if left out.

The needle of Zhong & Andreas 2024, arXiv 2410.04368; with more queries it is the recall of Arora et al. 2023, arXiv
2312.04927.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from supermask.datasets._sequences import Bits, below, sequences, shuffled_rows, split_of, whole_numbers
from supermask.types import Dataset, Split

INPUTS = "tokens"
EPOCHS = 30
AUGMENT = "none"


def load(data_dir: Path, argument: str = "") -> Dataset:
    """Sequences of 2N + 1 tokens: different keys out of 2N, values out of 2N others, and a key as the query.

    The floor `context` is what one of the values in the sequence gives, taken at random.

    Raises:
        UsageError: N is no whole number from 2 to 64.
    """
    (n,) = whole_numbers("recall", argument, "8", [("n", 2, 64)])

    def draw(bits: Bits, count: int) -> np.ndarray:
        keys = shuffled_rows(bits, 2 * n, count, taken=n)
        values = 2 * n + below(bits, 2 * n, count, n)
        asked = below(bits, n, count)
        pairs = np.stack([keys, values], axis=2).reshape(count, 2 * n)
        every = np.arange(count)
        return np.column_stack([pairs, keys[every, asked], values[every, asked]])

    train, test = (Split(rows[:, :-1], rows[:, -1]) for rows in split_of(f"recall:{n}", draw))
    tokens = [*(f"k{i}" for i in range(2 * n)), *(f"v{i}" for i in range(2 * n))]
    return sequences(train, test, tokens, floors=_floors)


def _floors(split: Split) -> Mapping[str, float]:
    return {"context": float((split.inputs[:, 1:-1:2] == split.targets[:, None]).mean())}
