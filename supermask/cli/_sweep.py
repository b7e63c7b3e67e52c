"""Shows a sweep: a live table on a terminal, a line per event anywhere else; results on stdout."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from supermask.cli import _options as opt
from supermask.cli._progress import is_live
from supermask.cli._tables import table
from supermask.config.sweep import Cell

if TYPE_CHECKING:
    from supermask.runs.sweep import SweepFolder

SHOWN = 20
"""Number of failures in the table at the end."""


class Lines:
    """Prints a line per event on stderr, and, unless `rows` is False, a line per result on stdout."""

    def __init__(self, total: int, folder: SweepFolder, as_json: bool, quiet: bool, rows: bool = True) -> None:
        self._rows = rows
        self.total, self._folder, self._as_json, self._quiet = total, folder, as_json, quiet
        self.done = 0
        self.failures: dict[str, dict[str, Any]] = {}
        self.began = time.monotonic()

    def say(self, text: str) -> None:
        click.echo(text, err=True)

    def on_start(self, cell: Cell, resumed: bool) -> None:
        if not self._quiet:
            self.say(f"{'resuming' if resumed else 'starting'} {cell.name}")

    def on_done(self, cell: Cell, rows: list[dict[str, Any]], known: bool) -> None:
        self.done += 1
        self.failures.pop(cell.name, None)
        for row in rows if self._rows else ():
            if self._as_json:
                opt.print_json({"cell": cell.name, **dict(cell.values), **row})
            else:
                click.echo(f"{cell.name}  {describe(row)}")
        if not known:
            self.tally()

    def tally(self) -> None:
        """Say how many cells are done."""
        if not self._quiet:
            self.say(f"{self.done}/{self.total} done")

    def on_failed(self, cell: Cell, failure: dict[str, Any], again: bool) -> None:
        self.failures[cell.name] = failure
        self.say(f"failed: {cell.name}: {failure['message']}{' (trying again)' if again else ''}")

    def on_stopped(self, cell: Cell) -> None:
        if not self._quiet:
            self.say(f"stopped: {cell.name}")

    def end(self) -> None:
        """Print the table of failures."""
        if not self.failures:
            return
        rows = [["failed cell", "exit code", "attempts", "why"]]
        for name, found in list(self.failures.items())[:SHOWN]:
            rows.append([name, str(found["exit_code"]), str(found["attempts"]), found["message"]])
        click.echo(table(rows, right={1, 2}), err=True)
        if (more := len(self.failures) - SHOWN) > 0:
            click.echo(f"and {more} more", err=True)
        click.echo(f"what each of them said: {self._folder.path / '.cells'}", err=True)


def describe(row: dict[str, Any]) -> str:
    """The numbers of a result as text."""
    shown = {"round": "round", "branch": "branch", "val_accuracy": "val", "test_accuracy": "test", "density": "density"}
    words = []
    for key, word in shown.items():
        if key in row:
            words.append(f"{word} {row[key]:.4f}" if isinstance(row[key], float) else f"{word} {row[key]}")
    return "  ".join(words)


class Table(Lines):
    """Keeps a table of running cells at the bottom of a terminal."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        from rich.console import Console
        from rich.live import Live

        self._running: dict[str, float] = {}
        self._live = Live(console=Console(stderr=True), get_renderable=self._table, refresh_per_second=2)
        self._live.start()

    def say(self, text: str) -> None:
        self._live.console.print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def on_start(self, cell: Cell, resumed: bool) -> None:
        self._running[cell.name] = time.monotonic()

    def on_done(self, cell: Cell, rows: list[dict[str, Any]], known: bool) -> None:
        self._running.pop(cell.name, None)
        super().on_done(cell, rows, known)

    def tally(self) -> None:
        """Say nothing: the table does."""

    def on_failed(self, cell: Cell, failure: dict[str, Any], again: bool) -> None:
        self._running.pop(cell.name, None)
        super().on_failed(cell, failure, again)

    def on_stopped(self, cell: Cell) -> None:
        self._running.pop(cell.name, None)
        super().on_stopped(cell)

    def end(self) -> None:
        self._live.stop()
        super().end()

    def _table(self) -> Any:
        from rich.table import Table as RichTable

        now, found = time.monotonic(), RichTable.grid(padding=(0, 2))
        for name, began in self._running.items():
            found.add_row(name, _time(now - began))
        failed = f", {len(self.failures)} failed" if self.failures else ""
        found.add_row(f"{self.done}/{self.total} done{failed}", _time(now - self.began))
        return found


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


@contextmanager
def reporter(total: int, folder: SweepFolder, as_json: bool, quiet: bool, rows: bool = True) -> Iterator[Lines]:
    """What shows a sweep; prints the table of failures in the end, whatever ends it. `rows`: the results too."""
    watcher = (Table if not quiet and is_live() else Lines)(total, folder, as_json, quiet, rows)
    try:
        yield watcher
    finally:
        watcher.end()
