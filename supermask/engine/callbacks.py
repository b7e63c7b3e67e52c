"""Whom a search tells how it goes, and whom it asks whether to go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from supermask.engine.snapshot import Snapshot
from supermask.types import Metrics


@dataclass(frozen=True)
class Observer:
    """Whom a search tells, and whom it asks whether to stop. Called between compiled calls, never from inside.

    Attributes:
        epoch: after each epoch, for all seeds that lie side by side.
        steps: after each compiled call: seeds, steps done, steps in all, mean loss of the epoch so far over the seeds.
        due: whether to save a snapshot now; called with the number of epochs that are done.
        save: takes a snapshot that was due, or that of a search that is being stopped.
        stop: whether to end the search with the best mask so far.
    """

    epoch: Callable[[Metrics], None] = lambda metrics: None
    steps: Callable[[tuple[int, ...], int, int, float], None] = lambda seeds, done, total, loss: None
    due: Callable[[int], bool] = lambda epochs_done: False
    save: Callable[[Snapshot], None] = lambda snapshot: None
    stop: Callable[[], bool] = lambda: False
