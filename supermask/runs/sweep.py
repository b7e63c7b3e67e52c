"""The folder of a sweep: one run folder per cell, and beside them what became of the cells that failed.

    SWEEP/sweep.json                  command, axes and words
    SWEEP/CELL/                       the run folder of a cell
    SWEEP/.cells/CELL.json            how its last call failed
    SWEEP/.cells/CELL.log             what its last call said

A cell is locked while it is called. The lock is held by the open file that the called process inherits, so it lasts as
long as that process even if the sweep that called it is killed.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supermask.config.sweep import Cell, Sweep, flag
from supermask.errors import BadFileError, RunFolderError, UsageError
from supermask.runs.index import hidden_path
from supermask.runs.results import finished_rows, read_object
from supermask.storage.atomic import write_atomic
from supermask.storage.lock import HELD

FILE = "sweep.json"


@dataclass(frozen=True)
class SweepFolder:
    """A folder that holds, or will hold, the runs of a sweep."""

    path: Path

    def read(self) -> Sweep | None:
        """Read the sweep that the folder belongs to; None if there is none yet.

        Raises:
            BadFileError: its file is damaged.
        """
        file = self.path / FILE
        return Sweep.from_dict(read_object(file, "a sweep"), file) if file.exists() else None

    def begin(self, sweep: Sweep) -> Sweep:
        """Make this the folder of a sweep; return it with the values that the folder's own sweep has beyond it.

        Raises:
            RunFolderError: the folder belongs to a sweep of another command, other axes or other words.
            UsageError: the folder cannot be made.
        """
        there = self.read()
        if there is not None:
            for what, old, new in (
                ("command", there.command, sweep.command),
                ("axes", " ".join(map(flag, there.axes)), " ".join(map(flag, sweep.axes))),
                ("other options", " ".join(there.words), " ".join(sweep.words)),
            ):
                if old != new:
                    raise RunFolderError(
                        f"{self.path} belongs to another sweep ({what}: {old or 'none'} there, {new or 'none'} here); "
                        "choose another --out"
                    )
            if there == sweep:
                return sweep
            axes = {name: (*old, *(v for v in sweep.axes[name] if v not in old)) for name, old in there.axes.items()}
            whole = Sweep(sweep.command, axes, sweep.words)
        else:
            whole = sweep
        try:
            (self.path / ".cells").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot create the folder {self.path}: {error.strerror}") from error
        write_atomic(self.path / FILE, (json.dumps(whole.to_dict(), indent=2) + "\n").encode())
        return whole

    def run(self, cell: Cell) -> Path:
        """The run folder of a cell."""
        return self.path / cell.name

    def log(self, cell: Cell) -> Path:
        """The file for what a cell's call says on stderr."""
        return self.path / ".cells" / f"{cell.name}.log"

    def lock(self, cell: Cell) -> int | None:
        """Lock a cell; return the handle, to be inherited and closed, or None if another process calls it.

        Raises:
            UsageError: the file system has no locks.
        """
        path = self.path / ".cells" / f"{cell.name}.lock"
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            if error.errno in HELD:
                return None
            raise UsageError(
                f"{self.path} lies on a file system without locks ({error.strerror}): a sweep needs another one"
            ) from error
        return handle

    def results(self, cell: Cell) -> list[dict[str, Any]] | None:
        """The rows of a finished cell, else None. What is damaged is not finished: its call says what is wrong."""
        with suppress(BadFileError):
            return finished_rows(self.run(cell))
        return None

    def begun(self, cell: Cell) -> bool:
        """Whether a call of the cell left something to go on from."""
        path = self.run(cell)
        return path.exists() or hidden_path(path).exists()

    def failure(self, cell: Cell) -> dict[str, Any] | None:
        """How the cell's last call failed: exit code, message, attempts; None if it did not."""
        with suppress(BadFileError):
            return read_object(self._failure(cell), "the failure of a cell")
        return None

    def set_failure(self, cell: Cell, failure: Mapping[str, Any] | None) -> None:
        """Store how a cell failed, or that it did not."""
        if failure is None:
            self._failure(cell).unlink(missing_ok=True)
        else:
            write_atomic(self._failure(cell), (json.dumps(dict(failure)) + "\n").encode())

    def _failure(self, cell: Cell) -> Path:
        return self.path / ".cells" / f"{cell.name}.json"
