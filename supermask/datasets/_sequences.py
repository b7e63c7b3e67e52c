"""What datasets of generated sequences share: their argument, distinct random rows and splits.

All of them are the same on every machine: they are drawn from a fixed stream of random bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from supermask.datasets._check import counted, note
from supermask.errors import UsageError
from supermask.types import Dataset, Split
from supermask.weights.streams import permutation, stream

TRAIN, TEST = 20_000, 4_000
"""Number of sequences; of tasks that have fewer different ones, all, in the same proportion."""
_ROUNDS = 8

Bits = np.random.Philox
Floors = Callable[[Split], Mapping[str, float]]


Range = tuple[str, int, int]


def whole_numbers(name: str, argument: str, default: str, ranges: Sequence[Range], sep: str = ",") -> list[int]:
    """Read the whole numbers of an argument such as `20,3`.

    Args:
        ranges: (what, lowest, highest) of each.

    Raises:
        UsageError: there are more or fewer, or one is out of its range.
    """
    words = (argument or default).split(sep)
    form = sep.join(what.upper() for what, _, _ in ranges)
    if len(words) != len(ranges) or not all(word.isdecimal() for word in words):
        raise UsageError(f"dataset {name}:{argument} is not of the form {name}:{form}, such as {name}:{default}")
    numbers = [int(word) for word in words]
    for number, (what, low, high) in zip(numbers, ranges, strict=True):
        if not low <= number <= high:
            raise UsageError(f"dataset {name}:{argument}: {what} is {number}; it must be from {low} to {high}")
    return numbers


def below(bits: Bits, bound: int, *shape: int) -> np.ndarray:
    """Random whole numbers from 0 to bound - 1, int32."""
    return (bits.random_raw(int(np.prod(shape))) % np.uint64(bound)).astype(np.int32).reshape(shape)


def shuffled_rows(bits: Bits, bound: int, count: int, *, taken: int) -> np.ndarray:
    """In each of `count` rows, `taken` different numbers from 0 to bound - 1 in random order, int32."""
    order = np.argsort(bits.random_raw(count * bound).reshape(count, bound), axis=1, kind="stable")
    return order[:, :taken].astype(np.int32)


def distinct(draw: Callable[[Bits, int], np.ndarray], bits: Bits, count: int) -> np.ndarray:
    """The first `count` different rows that `draw` (bits, number of rows) makes, or fewer if no more are found."""
    found = draw(bits, 0)
    for _ in range(_ROUNDS):
        found = np.concatenate([found, draw(bits, count)])
        whole = np.ascontiguousarray(found).reshape(len(found), -1)
        first = np.unique(whole.view(f"V{whole.dtype.itemsize * whole.shape[1]}"), return_index=True)[1]
        found = found[np.sort(first)]
        if len(found) >= count:
            break
    return found[:count]


def split_of(name: str, draw: Callable[[Bits, int], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Different rows for train and for test; `name` names the stream of random bits."""
    rows = distinct(draw, stream(name), TRAIN + TEST)
    test = len(rows) * TEST // (TRAIN + TEST)
    if len(rows) < TRAIN + TEST:
        rows = rows[permutation(len(rows), stream(name, "order"))]  # frequent ones were found first
        note(f"{name} has few different sequences: {len(rows) - test:,} for training, {test:,} for the test")
    if not test:
        raise UsageError(f"dataset {name} has only {counted(len(rows), 'sequence')}: too few to learn from and to test")
    return rows[: len(rows) - test], rows[len(rows) - test :]


def sequences(
    train: Split,
    test: Split,
    tokens: Sequence[str],
    *,
    floors: Floors | None = None,
    validation: Split | None = None,
) -> Dataset:
    """A dataset of sequences; `floors` are those of the task, besides what guessing gives on any of them."""
    return Dataset(train, test, tuple(tokens), (), (), validation, "next-token", floors)
