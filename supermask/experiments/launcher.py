"""What executes the calls of a sweep, and what is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from supermask.config.sweep import Cell


class Job(Protocol):
    """A call that was started."""

    def poll(self) -> int | None:
        """Return its exit code, negative if a signal killed it; None while it runs."""

    def stop(self) -> None:
        """Ask it to save a checkpoint and end."""


class Launcher(Protocol):
    """Executes calls of the command somewhere, at most one per slot."""

    slots: int

    def start(self, slot: int, arguments: Sequence[str], log: Path, lock: int) -> Job:
        """Start `supermask ARGUMENTS`; what it says on stderr goes to `log`, and it holds the open file `lock`."""


class Watcher(Protocol):
    """Is told what becomes of cells."""

    def on_start(self, cell: Cell, resumed: bool) -> None: ...

    def on_done(self, cell: Cell, rows: list[dict[str, Any]], known: bool) -> None: ...

    def on_failed(self, cell: Cell, failure: dict[str, Any], again: bool) -> None: ...

    def on_stopped(self, cell: Cell) -> None: ...
