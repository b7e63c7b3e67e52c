"""A run that several processes work on as one: process 0 has the folder, and all make the same decisions."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supermask.config import Config
from supermask.config.files import without_places
from supermask.engine.callbacks import Callback, Callbacks
from supermask.errors import BadFileError, SupermaskError, UsageError
from supermask.runs.folder import RunFolder
from supermask.runtime import hosts
from supermask.runtime.stopping import Stopping
from supermask.storage.atomic import read_bytes
from supermask.storage.container import seal, unseal
from supermask.types import Tree

if TYPE_CHECKING:
    from supermask.engine.problem import Problem
    from supermask.engine.snapshot import Snapshot

_BY_CALLBACK = -1
"""The cause of a stop that no signal and no time limit asked for."""


def facts_of(config: Config) -> dict[str, Any]:
    """What must be the same in all processes: the config, apart from where files lie, and what numbers depend on."""
    from importlib.metadata import version

    versions = {name: version(name) for name in ("jax", "jaxlib", "numpy")}
    return {"experiment": type(config).experiment, **without_places(config.to_dict()), **versions}


class Guest(RunFolder):
    """The run folder as all processes but process 0 know it: they write nothing, and need not see it."""

    def __init__(self, path: Path) -> None:
        self.path, self.resumed, self.phases, self.complaints = path, None, {}, []

    @property
    def working(self) -> Path:
        """See `RunFolder`."""
        return self.path

    def require_owner(self, config: Config, force: bool, made_of: Mapping[str, str] | None = None) -> None:
        """Process 0 checks that."""

    def begin(self, config: Config, made_of: Mapping[str, str] | None = None, *, force: bool = False) -> None:
        """See `share`."""

    def add_metrics(self, row: dict[str, Any]) -> None:
        """Process 0 writes them."""

    def add_file(self, name: str, data: bytes) -> Path:
        """Return the path at which process 0 writes it."""
        return self.path / name

    def add_checkpoint(self, number: int, document: dict[str, Any], tensors: Tree) -> None:
        """Process 0 writes it."""

    def last_checkpoint(self) -> Path | None:
        """Process 0 names it."""
        return None

    def close(self, results: list[dict[str, Any]], complete: bool) -> None:
        """Process 0 does that."""


def check_shared(problem: Problem) -> None:
    """Raise a UsageError if the data streams, which several processes cannot share."""
    if hosts.processes() > 1 and problem.streaming is not None:
        raise UsageError(
            "data that streams is for one process: give a larger --resident-limit, or another --augment if it is "
            "random-resized-crop"
        )


def share(folder: RunFolder, problem: Problem, made_of: Mapping[str, str]) -> None:
    """Check that all processes can work on a problem as one, and give all what process 0 found in the run folder.

    Raises:
        BadFileError: the processes have other data, or other code of the user's own.
    """
    if hosts.processes() == 1:
        return
    first, *others = hosts.exchange(dict(made_of))
    for process, other in enumerate(others, start=1):
        differing = sorted(key for key in first.keys() | other.keys() if first.get(key) != other.get(key))
        if differing:
            raise BadFileError(f"process {process} has other data or code than process 0: {', '.join(differing)}")
    document, tensors = folder.resumed or (None, {})
    mine = {"format": 1, "phases": list(folder.phases.items()), "resumed": document}
    data = hosts.data_of_leader(seal(mine, tensors) if hosts.leads() else b"")
    if not hosts.leads():
        found, tensors = unseal(data, folder.path, 1)
        folder.phases = dict(found["phases"])
        folder.resumed = (found["resumed"], tensors) if found["resumed"] else None


def read_shared(path: Path, or_none: bool = False) -> bytes | None:
    """Return the bytes of a file of a run, which process 0 reads for all; with `or_none`, None if there is none.

    Raises:
        BadFileError: the file is missing.
    """
    if or_none and not hosts.of_leader(path.exists()):
        return None
    return hosts.data_of_leader(read_bytes(path, "a file of this run") if hosts.leads() else b"")


def require_same(what: str, parts: Iterable[Any]) -> None:
    """Check that all processes have computed the same bytes.

    Raises:
        SupermaskError: they have not.
    """
    if hosts.processes() == 1:
        return
    digest = 0
    for part in parts:
        digest = zlib.crc32(part, digest)
    found = hosts.exchange(digest)
    others = [str(process) for process, other in enumerate(found) if other != found[0]]
    if others:
        raise SupermaskError(
            f"process {', '.join(others)} computes another {what} than process 0: all need the same processors or GPUs "
            "and the same libraries; nothing of it was kept"
        )


class Together(Callbacks):
    """The callbacks of all processes as one: all stop after the same step, and all save there."""

    def __init__(self, callbacks: Iterable[Callback], stopping: Stopping) -> None:
        super().__init__(callbacks)
        self._stopping = stopping

    def should_stop(self) -> bool:
        """Whether any process is to stop; this one then ends as that one does."""
        mine = None
        if super().should_stop():
            mine = self._stopping.cause
            mine = _BY_CALLBACK if mine is None else mine
        causes = [cause for cause in hosts.exchange(mine) if cause is not None]
        if causes and causes[0] != _BY_CALLBACK:
            self._stopping.follow(causes[0])
        return bool(causes)

    def should_save(self, epochs_done: int) -> bool:
        """Whether process 0 is to save."""
        return hosts.of_leader(super().should_save(epochs_done))

    def on_save(self, snapshot: Snapshot) -> None:
        """See `Callback`."""
        require_same("state", snapshot.arrays.values())
        super().on_save(snapshot)
