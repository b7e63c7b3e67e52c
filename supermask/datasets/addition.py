"""Decimal addition, lowest digit first: `addition:N` has N digits (5 if left out), `addition:N-M` tests longer numbers.

The task of Zhong & Andreas 2024, arXiv 2410.04368, where N is 10. The test of longer numbers is that of Zhou et al.
2022, arXiv 2211.09066.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from supermask.datasets._sequences import TEST, TRAIN, Bits, below, distinct, sequences, split_of, whole_numbers
from supermask.errors import UsageError
from supermask.types import Dataset, Split
from supermask.weights.streams import stream

INPUTS = "tokens"
EPOCHS = 30
AUGMENT = "none"

PLUS, EQUALS, END = 10, 11, 12
TOKENS = (*map(str, range(10)), "+", "=", ".")


def load(data_dir: Path, argument: str = "") -> Dataset:
    """Two numbers of as many digits, zeros in front allowed, and their sum of one digit more, up to the `.` at its end.

    The digits of the sum and the `.` are scored. `addition:5-10` trains on 1 to 5 digits and tests on 6 to 10, where
    shorter sequences end in more `.`. The floor `carry` is what adding without carries gives.

    Raises:
        UsageError: N or M is no whole number from 2 to 40, or M is not above N.
    """
    if "-" not in argument:
        (n,) = whole_numbers("addition", argument, "5", [("n", 2, 40)])
        rows = split_of(f"addition:{n}", lambda bits, count: _rows(bits, count, n, n, n))
        train, test = (_split(part, n) for part in rows)
        return sequences(train, test, TOKENS, floors=_floors)
    n, m = whole_numbers("addition", argument, "5-10", [("n", 2, 40), ("m", 2, 40)], sep="-")
    if m <= n:
        raise UsageError(f"dataset addition:{argument}: the test has numbers of more digits than {n}, up to {m}")
    short = distinct(lambda bits, count: _rows(bits, count, 1, n, m), stream("addition", n), TRAIN)
    long = distinct(lambda bits, count: _rows(bits, count, n + 1, m, m), stream("addition", n, m), TEST)
    return sequences(_split(short, m), _split(long, m), TOKENS, floors=_floors)


def _rows(bits: Bits, count: int, low: int, high: int, room: int) -> np.ndarray:
    """Rows of two numbers of `low` to `high` digits each, int32 (count, 2, room), -1 beyond their digits."""
    digits = below(bits, 10, count, 2, room)
    length = low + below(bits, high - low + 1, count)
    return np.where(np.arange(room) < length[:, None, None], digits, -1).astype(np.int32)


def _split(rows: np.ndarray, room: int) -> Split:
    """The sequences of pairs of numbers, all as long as those of `room` digits."""
    text = np.full((len(rows), 3 * room + 4), END, np.int32)
    start = np.zeros(len(rows), np.int64)
    lengths = (rows[:, 0] >= 0).sum(axis=1)
    for length in np.unique(lengths):
        mine = lengths == length
        one, other = (rows[mine, i, :length] for i in (0, 1))
        sign = np.ones((len(one), 1), np.int32)
        whole = np.concatenate([one, PLUS * sign, other, EQUALS * sign, _sum(one, other)], axis=1)
        text[mine, : whole.shape[1]] = whole
        start[mine] = 2 * length + 1  # of the equals sign
    place = np.arange(text.shape[1] - 1)
    scored = (place >= start[:, None]) & (place <= (start + lengths + 1)[:, None])
    return Split(np.ascontiguousarray(text[:, :-1]), np.where(scored, text[:, 1:], -1).astype(np.int32))


def _sum(one: np.ndarray, other: np.ndarray, carries: bool = True) -> np.ndarray:
    """The digits of the sums, lowest first, one more than the numbers have."""
    found, carry = [], np.zeros(len(one), np.int32)
    for a, b in zip(one.T, other.T, strict=True):
        found.append((a + b + carry) % 10)
        carry = (a + b + carry) // 10 * carries
    return np.stack([*found, carry], axis=1).astype(np.int32)


def _floors(split: Split) -> Mapping[str, float]:
    right = 0
    lengths = (split.inputs == PLUS).argmax(axis=1)
    for length in np.unique(lengths):
        mine = lengths == length
        one, other = (split.inputs[mine, first : first + length] for first in (0, length + 1))
        guess = np.concatenate([_sum(one, other, carries=False), np.full((len(one), 1), END)], axis=1)
        right += int((split.targets[mine, 2 * length + 1 : 3 * length + 3] == guess).sum())
    return {"carry": right / int((split.targets >= 0).sum())}
