"""Runs the cells of a sweep, each in a call of its own, and tells what becomes of them."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from supermask.config.sweep import Cell, Sweep
from supermask.errors import BadFileError, InterruptionError, RunFolderError, StoppedError, SupermaskError, UsageError
from supermask.experiments.launcher import Job, Launcher, Watcher
from supermask.runs.sweep import SweepFolder
from supermask.runtime.stopping import Stopping

STOPPED = (StoppedError.exit_code, InterruptionError.exit_code)
HOPELESS = tuple(kind.exit_code for kind in (UsageError, BadFileError, RunFolderError))
"""Exit codes of calls that would fail again."""
_PAUSE = 0.05
_LOOK = 1.0
"""Seconds between two looks at running calls, and at cells that other processes call."""


@dataclass(frozen=True)
class Policy:
    """What to do about failures.

    Attributes:
        fail_fast: stop at the first failure.
        retry: how often a cell that failed is called again. What is wrong with the call itself, or with a file, stays
            wrong, so such a cell is not.
        only_failed: leave out cells that have not failed before.
    """

    fail_fast: bool = False
    retry: int = 0
    only_failed: bool = False


@dataclass
class Outcome:
    """What became of a sweep: numbers of cells, and the failures by cell."""

    done: int = 0
    stopped: int = 0
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)


def run_sweep(
    sweep: Sweep,
    folder: SweepFolder,
    launcher: Launcher,
    policy: Policy,
    watcher: Watcher,
    stopping: Stopping,
    cells: Iterable[Cell] | None = None,
) -> Outcome:
    """Call every cell that is not finished, and return what became of all.

    Several processes may do this for the same folder at once: each cell is called by one of them.

    Args:
        cells: those to call; by default all.

    Raises:
        StoppedError, InterruptionError: a signal came; the calls saved their checkpoints.
    """
    return _Driver(sweep, folder, launcher, policy, watcher, stopping, cells).run()


@dataclass(frozen=True)
class _Running:
    cell: Cell
    job: Job
    lock: int


class _Driver:
    def __init__(
        self,
        sweep: Sweep,
        folder: SweepFolder,
        launcher: Launcher,
        policy: Policy,
        watcher: Watcher,
        stopping: Stopping,
        chosen: Iterable[Cell] | None,
    ) -> None:
        self._sweep, self._folder, self._launcher, self._policy = sweep, folder, launcher, policy
        self._watcher, self._stopping = watcher, stopping
        cells = list(sweep.cells() if chosen is None else chosen)
        if policy.only_failed:
            cells = [cell for cell in cells if folder.failure(cell)]
        self._total = len(cells)
        self._pending, self._elsewhere = deque(cells), deque[Cell]()
        self._running: dict[int, _Running] = {}
        self._attempts: dict[str, int] = {}
        self._outcome = Outcome()
        self._began, self._looked, self._ending = time.time(), 0.0, False

    def run(self) -> Outcome:
        while self._pending or self._running or self._elsewhere:
            if self._stopping.stop_requested():
                self._end()
            for slot in range(self._launcher.slots):
                self._poll(slot)
            if self._ending and not self._running:
                break
            time.sleep(_PAUSE if self._running or self._elsewhere else 0)
        if self._stopping.stop_requested() and (self._ending or self._outcome.stopped):
            raise self._stopping.error(
                f"{self._outcome.done} of {self._total} cells are done; the same command goes on with the others"
            )
        return self._outcome

    def _poll(self, slot: int) -> None:
        running = self._running.get(slot)
        if running is not None:
            code = running.job.poll()
            if code is None:
                return
            del self._running[slot]
            try:
                self._ended(running.cell, code)
            finally:
                os.close(running.lock)
        while not self._ending and slot not in self._running:
            if not self._pending:
                self._look_elsewhere()
            if not self._pending:
                return
            self._start(slot, self._pending.popleft())

    def _start(self, slot: int, cell: Cell) -> None:
        if self._is_settled(cell):
            return
        lock = self._folder.lock(cell)
        if lock is None:
            self._elsewhere.append(cell)
            return
        try:
            if self._is_settled(cell):  # by a process that held the lock until now
                os.close(lock)
                return
            self._stopping.nothing_to_lose = False
            self._watcher.on_start(cell, self._folder.begun(cell))
            words = [*self._sweep.arguments(cell.values), f"--out={self._folder.run(cell)}", "--quiet"]
            job = self._launcher.start(slot, words, self._folder.log(cell), lock)
        except BaseException:
            os.close(lock)
            raise
        self._running[slot] = _Running(cell, job, lock)

    def _is_settled(self, cell: Cell) -> bool:
        """Tell of a cell that is finished, or that failed elsewhere since this sweep began."""
        rows = self._folder.results(cell)
        if rows is not None:
            self._done(cell, rows, known=True)
            return True
        failure = self._folder.failure(cell)
        if failure and failure.get("time", 0) > self._began and cell.name not in self._attempts:
            self._outcome.failures[cell.name] = failure
            self._watcher.on_failed(cell, failure, again=False)
            return True
        return False

    def _look_elsewhere(self) -> None:
        """Take back cells that no other process calls any more."""
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        for _ in range(len(self._elsewhere)):
            cell = self._elsewhere.popleft()
            lock = self._folder.lock(cell)
            if lock is None:
                self._elsewhere.append(cell)
            else:
                os.close(lock)
                self._pending.append(cell)

    def _ended(self, cell: Cell, code: int) -> None:
        rows = self._folder.results(cell)
        if rows is not None:  # whatever came after that
            self._done(cell, rows, known=False)
        elif code in STOPPED or (self._ending and code < 0):
            self._outcome.stopped += 1
            self._watcher.on_stopped(cell)
        else:
            self._failed(cell, code)

    def _done(self, cell: Cell, rows: list[dict[str, Any]], known: bool) -> None:
        self._folder.set_failure(cell, None)
        self._outcome.failures.pop(cell.name, None)
        self._outcome.done += 1
        self._watcher.on_done(cell, rows, known)

    def _failed(self, cell: Cell, code: int) -> None:
        attempts = self._attempts[cell.name] = self._attempts.get(cell.name, 0) + 1
        failure = {"exit_code": code, "message": self._why(cell, code), "attempts": attempts, "time": time.time()}
        self._folder.set_failure(cell, failure)
        again = attempts <= self._policy.retry and not self._ending and code not in HOPELESS
        if again:
            self._pending.append(cell)
        else:
            self._outcome.failures[cell.name] = failure
            if self._policy.fail_fast:
                self._end()
        self._watcher.on_failed(cell, failure, again)

    def _why(self, cell: Cell, code: int) -> str:
        """The line with which a call ended."""
        if code < 0:
            name = signal.Signals(-code).name
            return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        lines = self._folder.log(cell).read_text(errors="replace").splitlines()
        own = [line.removeprefix("supermask: ") for line in lines if line.startswith("supermask: ")]
        return (own or lines or [f"exit code {code}"])[-1]

    def _end(self) -> None:
        if not self._ending:
            self._ending = True
            for running in self._running.values():
                running.job.stop()


def failed(outcome: Outcome) -> SupermaskError | None:
    """The error to end a sweep with, or None if nothing failed."""
    count = len(outcome.failures)
    if count:
        total = count + outcome.done + outcome.stopped
        return SupermaskError(f"{count} of {total} cells failed; the same command tries them again")
    if outcome.stopped:
        return StoppedError(f"{outcome.stopped} cells were stopped; the same command goes on with them")
    return None
