"""Shows progress on stderr: a live bar on a terminal, one plain line per epoch anywhere else."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from supermask.config import Config
from supermask.config.inputs import TOKENS, inputs_of
from supermask.engine.callbacks import Callback, Metrics


class Lines(Callback):
    """Prints one plain line per epoch and seed."""

    def __init__(self) -> None:
        self._epochs = 0
        self._noun = "images"

    def on_begin(self, folder: Path, config: Config) -> None:
        self._epochs, self._noun = int(config.epochs or 0), noun_of(config)

    def on_note(self, text: str) -> None:
        click.echo(text, err=True)

    def on_epoch(self, metrics: Metrics) -> None:
        epochs = metrics.epochs or self._epochs
        for row in metrics.rows():
            click.echo(f"seed {row['seed']}  epoch {row['epoch']}/{epochs}  {describe(row, self._noun)}", err=True)


class WarningLines(Callback):
    """Prints warnings and nothing else."""

    def on_note(self, text: str) -> None:
        if text.startswith("warning: "):
            click.echo(text, err=True)


class Bar(Callback):
    """Shows a live bar with epoch, loss, validation accuracy, density, images/s and the time left.

    It fits the terminal, even after a resize: numbers are dropped first, the bar and the time left last (see `_line`).
    Numbers are means over the seeds that run side by side.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        from supermask.cli._line import Line

        self._epochs = self._total = 0
        self._seeds: tuple[int, ...] = ()
        self._noun = "images"
        self._progress = Progress(Line(), console=Console(stderr=True))
        self._task: Any = None

    def on_begin(self, folder: Path, config: Config) -> None:
        self._epochs, self._noun = int(config.epochs or 0), noun_of(config)
        self._progress.start()

    def on_end(self) -> None:
        self._progress.stop()

    def on_note(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, markup=False, emoji=False)

    def on_steps(self, seeds: tuple[int, ...], done: int, total: int, loss: float) -> None:
        if self._total not in (0, total):  # a training of another length
            self._epochs = self._epochs * total // self._total
        self._total, epoch = total, -(-done * self._epochs // total)
        if seeds != self._seeds:
            self._begin(seeds, total, epoch, loss)
        self._progress.update(self._task, completed=done, total=total, epoch=epoch, epochs=self._epochs, loss=loss)

    def _begin(self, seeds: tuple[int, ...], total: int, epoch: int, loss: float) -> None:
        """Start a new bar; the previous one stays above it as a line of text."""
        if self._seeds:
            self._progress.console.print(self._progress.get_renderable())
            self._progress.remove_task(self._task)
        self._seeds = seeds
        named = f"{seeds[0]}-{seeds[-1]}" if len(seeds) > 1 else seeds[0]
        fields: dict[str, Any] = {
            "seed": named,
            "epoch": epoch,
            "epochs": self._epochs,
            "loss": loss,
            "noun": self._noun,
        }
        self._task = self._progress.add_task("", total=total, **fields)

    def on_epoch(self, metrics: Metrics) -> None:
        if self._seeds:
            names = ("loss", "val_accuracy", "density", "images_per_second")
            means: dict[str, Any] = {name: float(getattr(metrics, name).mean()) for name in names}
            self._progress.update(self._task, epoch=metrics.epoch, **means)


def noun_of(config: Config) -> str:
    """What the rate of a training counts: images, or sequences of tokens."""
    return "sequences" if inputs_of("datasets", config.dataset) == TOKENS else "images"


def describe(row: dict[str, Any], noun: str = "images") -> str:
    """Return the numbers of one epoch as text."""
    return (
        f"loss {row['loss']:.4f}  val {row['val_accuracy']:.4f}  density {row['density']:.3f}  "
        f"{row['images_per_second']:,.0f} {noun}/s"
    )


def reporter(quiet: bool) -> Callback:
    """Return the callback for stderr: warnings alone if `quiet`, a bar on a capable terminal, else lines."""
    if quiet:
        return WarningLines()
    return Bar() if is_live() else Lines()


def is_live() -> bool:
    """Whether stderr is a terminal on which lines can be drawn again."""
    if not os.environ.get("COLUMNS", "-").strip("0"):
        del os.environ["COLUMNS"]  # 0 columns or "": unknown, so rich is to ask the terminal
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
