"""Induction: a random block of tokens, then the same block again, which is scored; `induction:N` for blocks of up to N.

The copying that induction heads do: Olsson et al. 2022, arXiv 2209.11895.
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
    """Blocks of N/2 to N different tokens out of 2N; their lengths differ, so counting back is no way to copy.

    The first token of the second block cannot be known, so the others are scored. Shorter sequences end in `.`. The
    floor `context` is what a token of the block gives, taken at random.

    Raises:
        UsageError: N is no whole number from 4 to 128; 16 if it is left out.
    """
    (n,) = whole_numbers("induction", argument, "16", [("n", 4, 128)])

    def draw(bits: Bits, count: int) -> np.ndarray:
        blocks, length = shuffled_rows(bits, 2 * n, count, taken=n), n // 2 + below(bits, n - n // 2 + 1, count)
        place = np.arange(2 * n)[None]
        rows = np.take_along_axis(blocks, place % length[:, None], axis=1)
        return np.where(place < 2 * length[:, None], rows, 2 * n).astype(np.int32)

    def split(rows: np.ndarray) -> Split:
        length = (rows < 2 * n).sum(axis=1, keepdims=True) // 2
        place = np.arange(1, 2 * n)[None]  # of the token that is to be known
        scored = (place > length) & (place < 2 * length)
        return Split(np.ascontiguousarray(rows[:, :-1]), np.where(scored, rows[:, 1:], -1).astype(np.int32))

    def floors(split: Split) -> Mapping[str, float]:
        scored = (split.targets >= 0).sum(axis=1)  # all but one of the block's tokens
        return {"context": float((scored / (scored + 1)).sum() / scored.sum())}

    train, test = map(split, split_of(f"induction:{n}", draw))
    return sequences(train, test, [*map(str, range(2 * n)), "."], floors=floors)
