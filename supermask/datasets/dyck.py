"""Dyck: whether parentheses are balanced, of up to N of them, as `dyck:N`; dyck:40 if left out.

The parentheses of Zhong & Andreas 2024, arXiv 2410.04368, where N is 60.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from supermask.datasets._sequences import Bits, below, sequences, split_of, whole_numbers
from supermask.types import Dataset, Split

INPUTS = "tokens"
EPOCHS = 30
AUGMENT = "none"

OPEN, CLOSE, ASK, YES, NO, END = range(6)
TOKENS = ("(", ")", "?", "yes", "no", ".")


def load(data_dir: Path, argument: str = "") -> Dataset:
    """Parentheses and `?`, which is answered by `yes` or `no`; shorter sequences end in `.`.

    Lengths from half of N to N are equally frequent, and so are all balanced sequences of a length. In a third of the
    sequences one to three parentheses are turned around, in a third two that differ change places. The floor
    `count` is what counting gives: yes if as many open as close.

    Raises:
        UsageError: N is no whole number from 8 to 256.
    """
    (n,) = whole_numbers("dyck", argument, "40", [("n", 8, 256)])

    def draw(bits: Bits, count: int) -> np.ndarray:
        pairs = (n // 4) + below(bits, n // 2 - n // 4 + 1, count)
        rows = np.full((count, n + 1), END, np.int32)
        for half in np.unique(pairs):
            mine = np.flatnonzero(pairs == half)
            rows[mine, : 2 * half] = _mutated(bits, _balanced(bits, len(mine), int(half)))
            rows[mine, 2 * half] = ASK
        return rows

    train, test = (Split(rows, _answers(rows)) for rows in split_of(f"dyck:{n}", draw))
    return sequences(train, test, TOKENS, floors=_floors)


def _balanced(bits: Bits, count: int, half: int) -> np.ndarray:
    """Balanced rows, all equally likely: of the rotations of half + 1 ups and half downs, one stays above its start."""
    order = np.argsort(bits.random_raw(count * (2 * half + 1)).reshape(count, -1), axis=1, kind="stable")
    steps = np.where(order <= half, 1, -1)
    lowest = steps.shape[1] - 1 - np.argmin(np.cumsum(steps, axis=1)[:, ::-1], axis=1)  # the last place of the minimum
    turned = np.take_along_axis(steps, (lowest[:, None] + 1 + np.arange(2 * half + 1)) % (2 * half + 1), axis=1)
    return np.where(turned[:, 1:] > 0, OPEN, CLOSE).astype(np.int32)


def _mutated(bits: Bits, rows: np.ndarray) -> np.ndarray:
    """Turn one to three places around in a third of the rows; let two that differ change places in another third."""
    count, length = rows.shape
    kind, flips = below(bits, 3, count), 1 + below(bits, 3, count)
    order = np.argsort(bits.random_raw(count * length).reshape(count, length), axis=1, kind="stable")
    turned = np.where((order < flips[:, None]) & (kind == 0)[:, None], 1 - rows, rows)
    opening, closing = (np.argmin(np.where(rows == token, order, length), axis=1) for token in (OPEN, CLOSE))
    swapped, every = kind == 1, np.arange(count)
    turned[every[swapped], opening[swapped]] = CLOSE
    turned[every[swapped], closing[swapped]] = OPEN
    return turned


def _depth(rows: np.ndarray) -> np.ndarray:
    return np.cumsum((rows == OPEN).astype(np.int32) - (rows == CLOSE), axis=1)


def _answers(rows: np.ndarray) -> np.ndarray:
    depth = _depth(rows)
    balanced = (depth.min(axis=1) >= 0) & (depth[:, -1] == 0)
    return np.where(rows == ASK, np.where(balanced, YES, NO)[:, None], -1).astype(np.int32)


def _floors(split: Split) -> Mapping[str, float]:
    guess = np.where(_depth(split.inputs)[:, -1] == 0, YES, NO)
    return {"count": float((guess == split.targets.max(axis=1)).mean())}
