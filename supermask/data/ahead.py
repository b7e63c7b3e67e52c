"""Makes what the devices need next while they compute."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from supermask.datasets._lazy import Lazy
from supermask.runtime.futures import in_order

AHEAD = 2
"""Number of pieces that are made while the devices compute."""

S = TypeVar("S")
T = TypeVar("T")


def ahead(make: Callable[[S], T], items: Iterable[S]) -> Generator[T, None, None]:
    """Yield make(item) for all items, in order; the next AHEAD ones are made meanwhile, in one other thread."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="supermask-ahead")
    try:
        yield from in_order(thread, make, items, AHEAD)
    finally:
        thread.shutdown(wait=False, cancel_futures=True)


def read(inputs: Any, index: np.ndarray, noise: str | None = None) -> np.ndarray:
    """Return examples at these places; `noise` names random crops, where training sees such."""
    if isinstance(inputs, Lazy):
        return inputs.read(index, noise)
    found: np.ndarray = inputs[index]
    return found
