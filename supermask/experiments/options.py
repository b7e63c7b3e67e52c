"""Where and how an experiment is run, and what a run came to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supermask.engine.callbacks import Callback
from supermask.errors import SupermaskError, UsageError
from supermask.runtime.places import expand
from supermask.runtime.team import Hosts

Rows = list[dict[str, Any]]
"""One result per seed."""


@dataclass(frozen=True)
class CheckpointPolicy:
    """When to save checkpoints.

    Attributes:
        seconds: time between two checkpoints.
        epochs: epochs between two checkpoints; if given, it replaces `seconds`.
    """

    seconds: float = 600.0
    epochs: int | None = None


@dataclass(frozen=True)
class RunOptions:
    """Where and how to run an experiment; nothing here affects its results.

    Attributes:
        path: the run folder; None derives a name in `root` from the config.
        root: the folder for run folders.
        data_dir: folder of datasets; the user's cache folder by default.
        dataset: where the data lies now, named as in a config, if it has moved since the run began.
        device: auto, cpu or gpu, to set up JAX before it is imported; None leaves that to the caller.
        force: start over, whatever the run folder holds.
        embed_weights: store the frozen weights in tickets.
        checkpoints: when to save checkpoints.
        callbacks: called as the training progresses.
        hosts: the processes that work on the run as one, if this is one of several. If one of them ends, this one is
            ended too.
    """

    path: Path | None = None
    root: Path = Path("runs")
    data_dir: Path | None = None
    dataset: str | None = None
    device: str | None = None
    force: bool = False
    embed_weights: bool = False
    checkpoints: CheckpointPolicy = CheckpointPolicy()
    callbacks: tuple[Callback, ...] = ()
    hosts: Hosts | None = None

    def __post_init__(self) -> None:
        for name in ("path", "root", "data_dir"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else expand(value))

    @classmethod
    def of(cls, run: str | Path | RunOptions, data_dir: str | Path | None, callbacks: Iterable[Callback]) -> RunOptions:
        """Return the options of a call from Python, where `run` may be a folder.

        Raises:
            UsageError: data_dir or callbacks are given beside RunOptions.
        """
        callbacks = tuple(callbacks)
        if not isinstance(run, RunOptions):
            return cls(expand(run), data_dir=expand(data_dir) if data_dir else None, callbacks=callbacks)
        if data_dir or callbacks:
            raise UsageError("run= is RunOptions, which hold data_dir and callbacks: give them there")
        return run

    def devices_here(self, devices: int | None) -> int | None:
        """The number of devices of this process, of a run that has so many."""
        return devices if self.hosts is None else self.hosts.local(devices)

    def note(self, text: str) -> None:
        """Pass a message to all callbacks."""
        for callback in self.callbacks:
            callback.on_note(text)


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run.

    Attributes:
        path: the run folder.
        rows: one result per seed; if the run was stopped, also the best so far of the seeds it was working on.
        stopped: the error to raise if a signal or the time limit ended the run early, else None.
        known: whether the run was finished before this call.
    """

    path: Path
    rows: Rows
    stopped: SupermaskError | None = None
    known: bool = False
