"""Associative recall: N pairs of key and value, then all keys in another order: at each, its value. `recall:N` (8).

The needle of Zhong & Andreas 2024, arXiv 2410.04368, with a query for each pair, as in Arora et al. 2023, arXiv
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
    """Sequences of 3N tokens: N different keys out of 2N, each before a value out of 2N others, and the keys once more.

    Answers are not among the inputs, where they would tell which values are left. The floor `context` is what one of
    the values in the sequence gives, taken at random.

    Raises:
        UsageError: N is no whole number from 2 to 64.
    """
    (n,) = whole_numbers("recall", argument, "8", [("n", 2, 64)])

    def draw(bits: Bits, count: int) -> np.ndarray:
        keys = shuffled_rows(bits, 2 * n, count, taken=n)
        values = 2 * n + below(bits, 2 * n, count, n)
        order = shuffled_rows(bits, n, count, taken=n)
        pairs = np.stack([keys, values], axis=2).reshape(count, 2 * n)
        return np.concatenate([pairs, *(np.take_along_axis(part, order, axis=1) for part in (keys, values))], axis=1)

    def split(rows: np.ndarray) -> Split:
        inputs, targets = np.ascontiguousarray(rows[:, : 3 * n]), np.full((len(rows), 3 * n), -1, np.int32)
        targets[:, 2 * n :] = rows[:, 3 * n :]
        return Split(inputs, targets)

    def floors(split: Split) -> Mapping[str, float]:
        values, asked = split.inputs[:, 1 : 2 * n : 2], split.targets[:, 2 * n :]
        return {"context": float((values[:, :, None] == asked[:, None]).mean())}

    train, test = map(split, split_of(f"recall:{n}", draw))
    tokens = [*(f"k{i}" for i in range(2 * n)), *(f"v{i}" for i in range(2 * n))]
    return sequences(train, test, tokens, floors=floors)
