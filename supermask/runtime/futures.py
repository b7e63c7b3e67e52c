"""Results of an executor in the order of what was asked for, with a limit on how many are made ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def in_order(executor: Executor, function: Callable[[S], T], items: Iterable[S], most: int) -> Iterator[T]:
    """Yield function(item) for all items, in order; at most `most` further ones are made or wait meanwhile.

    What was not begun when the caller stops is not made.
    """
    waiting: deque[Future[T]] = deque()
    try:
        for item in items:
            waiting.append(executor.submit(function, item))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
