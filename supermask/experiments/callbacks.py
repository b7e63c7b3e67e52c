"""The callbacks of a durable run: write metrics into its folder, save checkpoints, stop on signals."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from supermask.engine.callbacks import Callback, Metrics
from supermask.runs.folder import RunFolder
from supermask.runtime.stopping import Stopping

if TYPE_CHECKING:
    from supermask.engine.snapshot import Snapshot
    from supermask.experiments.options import CheckpointPolicy


class Log(Callback):
    """Writes metrics.jsonl.

    Attributes:
        columns: beside the metrics themselves, such as the round of a lottery.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self.columns: dict[str, Any] = {}

    def on_epoch(self, metrics: Metrics) -> None:
        for row in metrics.rows():
            self._folder.add_metrics({**self.columns, **row})


class Stops(Callback):
    """Asks the training to stop after a signal or when the time limit is reached."""

    def __init__(self, stopping: Stopping) -> None:
        self._stopping = stopping

    def on_steps(self, seeds: tuple[int, ...], done: int, total: int, loss: float) -> None:
        self._stopping.nothing_to_lose = False

    def should_stop(self) -> bool:
        return self._stopping.stop_requested()


class Checkpoints(Callback):
    """Saves checkpoints when they are due.

    Attributes:
        phase: name of the current phase.
        goes_on: says where the same call would resume after a stop; completes "the same command ...".
    """

    def __init__(self, folder: RunFolder, policy: CheckpointPolicy) -> None:
        self._folder, self._policy = folder, policy
        self._saved, self._epochs, self._phases = time.monotonic(), 0, len(folder.phases)
        self.phase, self.goes_on = "", "starts over"

    def should_save(self, epochs_done: int) -> bool:
        """Whether a checkpoint is due, or a phase has finished since the last one."""
        if len(self._folder.phases) > self._phases:
            return True
        if self._policy.epochs is not None:
            return epochs_done % self._policy.epochs == 0 and epochs_done != self._epochs
        return time.monotonic() - self._saved > self._policy.seconds

    def on_save(self, snapshot: Snapshot) -> None:
        """Write the snapshot to the run folder, with the results of the finished phases."""
        document, tensors = snapshot.pack()
        number = len(self._folder.phases) * 10**9 + snapshot.step
        self._folder.add_checkpoint(number, {**document, "phase": self.phase}, tensors)
        self._saved, self._epochs, self._phases = time.monotonic(), snapshot.epochs_done, len(self._folder.phases)
        where = f"step {snapshot.step}" if snapshot.step else f"seed {snapshot.first}"
        self.goes_on = f"goes on from {where}"
