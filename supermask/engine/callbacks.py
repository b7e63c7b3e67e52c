"""Callbacks: they are told how a training progresses, and asked whether to stop or to save."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from supermask.config import Config
    from supermask.engine.snapshot import Snapshot


@dataclass(frozen=True)
class Metrics:
    """The measurements of one epoch. Every array has shape (seeds,); accuracies are fractions in [0, 1].

    Attributes:
        epoch: number of epochs done.
        seeds: the seeds that the entries belong to.
        images_per_second: training images over the epoch's wall time, compilation excluded.
        epochs: number of epochs of this training; 0 if it is not known.
    """

    epoch: int
    seeds: tuple[int, ...]
    loss: np.ndarray
    train_accuracy: np.ndarray
    val_accuracy: np.ndarray
    density: np.ndarray
    images_per_second: np.ndarray
    epochs: int = 0

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat dict per seed, as written to metrics.jsonl."""
        names = ("loss", "train_accuracy", "val_accuracy", "density", "images_per_second")
        return [
            {"seed": seed, "epoch": self.epoch, **{name: float(getattr(self, name)[i]) for name in names}}
            for i, seed in enumerate(self.seeds)
        ]


class Callback:
    """Called between compiled calls, never from inside one. Every function does nothing unless overridden."""

    def on_begin(self, folder: Path, config: Config) -> None:
        """Called when a run begins or resumes in a folder; not called without a run folder."""

    def on_end(self) -> None:
        """Called when the run has ended, whether it succeeded or failed."""

    def on_note(self, text: str) -> None:
        """Called with a message for the user, on one line."""

    def on_steps(self, seeds: tuple[int, ...], done: int, total: int, loss: float) -> None:
        """Called after each compiled call: steps done, total steps, mean loss of the epoch so far over the seeds."""

    def on_epoch(self, metrics: Metrics) -> None:
        """Called after each epoch, for all seeds that lie side by side."""

    def should_stop(self) -> bool:
        """Whether to stop now, with the best result so far."""
        return False

    def should_save(self, epochs_done: int) -> bool:
        """Whether to save a snapshot now."""
        return False

    def on_save(self, snapshot: Snapshot) -> None:
        """Called with a snapshot, after a callback asked to save or to stop."""


class Callbacks(Callback):
    """Several callbacks as one."""

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
