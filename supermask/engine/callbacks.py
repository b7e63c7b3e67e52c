"""Callbacks: who is told how a training goes, and who is asked whether to stop or to save."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from supermask.config import Config
    from supermask.engine.snapshot import Snapshot


@dataclass(frozen=True)
class Metrics:
    """What one epoch showed; every array has shape (seeds,) and accuracies are fractions in [0, 1].

    Attributes:
        epoch: how many epochs are done, counted from 1.
        seeds: the seeds that the columns belong to.
        images_per_second: training images over the epoch's wall time, compilation excluded.
    """

    epoch: int
    seeds: tuple[int, ...]
    loss: np.ndarray
    train_accuracy: np.ndarray
    val_accuracy: np.ndarray
    density: np.ndarray
    images_per_second: np.ndarray


class Callback:
    """Called between compiled calls, never from inside; every function does nothing unless overridden."""

    def on_begin(self, folder: Path, config: Config) -> None:
        """A run begins, or goes on, in a folder; not called where nothing is kept."""

    def on_end(self) -> None:
        """The run that began has ended, however it did."""

    def on_note(self, text: str) -> None:
        """Something a user may want to read, on one line."""

    def on_steps(self, seeds: tuple[int, ...], done: int, total: int, loss: float) -> None:
        """After each compiled call: steps done, steps in all, mean loss of the epoch so far over the seeds."""

    def on_epoch(self, metrics: Metrics) -> None:
        """After each epoch, for all seeds that lie side by side."""

    def should_stop(self) -> bool:
        """Whether to stop here, with the best result so far."""
        return False

    def should_save(self, epochs_done: int) -> bool:
        """Whether to save a snapshot now."""
        return False

    def on_save(self, snapshot: Snapshot) -> None:
        """A snapshot that some callback asked for, or that of a training that is being stopped."""


class Callbacks(Callback):
    """Several as one."""

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self._all = tuple(callbacks)

    def on_begin(self, folder: Path, config: Config) -> None:
        for callback in self._all:
            callback.on_begin(folder, config)

    def on_end(self) -> None:
        for callback in self._all:
            callback.on_end()

    def on_note(self, text: str) -> None:
        for callback in self._all:
            callback.on_note(text)

    def on_steps(self, seeds: tuple[int, ...], done: int, total: int, loss: float) -> None:
        for callback in self._all:
            callback.on_steps(seeds, done, total, loss)

    def on_epoch(self, metrics: Metrics) -> None:
        for callback in self._all:
            callback.on_epoch(metrics)

    def should_stop(self) -> bool:
        return any(callback.should_stop() for callback in self._all)

    def should_save(self, epochs_done: int) -> bool:
        return any(callback.should_save(epochs_done) for callback in self._all)

    def on_save(self, snapshot: Snapshot) -> None:
        for callback in self._all:
            callback.on_save(snapshot)
