"""A search that fills its run folder, for every command that searches."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supermask.cli._progress import Silent, reporter, rows
from supermask.config import SearchConfig
from supermask.errors import InterruptionError

if TYPE_CHECKING:
    from supermask.build import Parts
    from supermask.loop import Outcome
    from supermask.run import RunFolder


def own_folder(runs_dir: Path, config: SearchConfig) -> Path:
    """The run folder of a resolved config, unless the user names one."""
    from supermask.build import resolve
    from supermask.run import default_path

    plain = SearchConfig(arch=config.arch, dataset=config.dataset, method=config.method)
    return default_path(runs_dir, config, resolve(plain))


def search_into(
    path: Path,
    config: SearchConfig,
    *,
    data_dir: Path | None,
    quiet: bool,
    force: bool = False,
    embed_weights: bool = False,
) -> tuple[list[dict[str, Any]], bool]:
    """Search a resolved config and close its run folder.

    Returns:
        one result per seed, and whether Ctrl-C ended the search early, with the best tickets so far.

    Raises:
        InterruptionError: before there was any ticket; nothing is left in the folder.
        RunFolderError, UsageError, BadFileError, DivergedError: see `open_run`, `build` and `search`.
    """
    from supermask.build import build
    from supermask.run import open_run

    with open_run(path, config, force=force) as folder:
        with reporter(quiet, int(config.epochs or 0)) as progress, _ctrl_c() as pressed:
            parts = build(config, data_dir)
            progress.note(f"{config.method} on {config.dataset}, {config.arch}: run folder {path}")
            results = _fill(folder, parts, progress, pressed, embed_weights)
        if not results:
            raise InterruptionError("interrupted before the first epoch ended; nothing was written")
        folder.close(results, complete=not pressed)
    return results, bool(pressed)


def _fill(
    folder: RunFolder, parts: Parts, progress: Silent, pressed: list[int], embed_weights: bool
) -> list[dict[str, Any]]:
    """Search, writing metrics and tickets as they come; one result per seed."""
    from supermask.loop import Observer, outcomes

    def epoch(metrics: Any) -> None:
        progress.epoch(metrics)
        for row in rows(metrics):
            folder.add_metrics(row)

    results = []
    for outcome in outcomes(parts, Observer(epoch=epoch, steps=progress.steps, stop=lambda: bool(pressed))):
        progress.note(
            f"seed {outcome.ticket.config.seed}: {outcome.compile_seconds:.1f} s compiling, "
            f"{outcome.train_seconds:.1f} s searching"
        )
        ticket = outcome.ticket.embed_weights() if embed_weights else outcome.ticket
        path = folder.add_ticket(ticket)
        results.append(_result(outcome, folder.path, path, len(ticket.to_bytes())))
    return results


def _result(outcome: Outcome, run: Path, path: Path, size: int) -> dict[str, Any]:
    ticket = outcome.ticket
    named = {item.name: getattr(ticket.config, item.name) for item in fields(SearchConfig)}
    return {
        "ticket": str(path),
        "run": str(run),
        **{key: named[key] for key in ("arch", "dataset", "method", "init", "seed")},
        "density": ticket.density,
        **{key: ticket.metrics[key] for key in ("epochs", "loss", "train_accuracy", "val_accuracy")},
        "images_per_second": outcome.images_per_second,
        "compile_seconds": outcome.compile_seconds,
        "train_seconds": outcome.train_seconds,
        "ticket_bytes": size,
        "bits_per_parameter": ticket.bits_per_parameter,
        "device": outcome.device,
    }


@contextmanager
def _ctrl_c() -> Iterator[list[int]]:
    """A list that holds the signal once Ctrl-C was pressed; a second press interrupts at once."""
    pressed: list[int] = []

    def note(number: int, frame: object) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    old = signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, old)
