"""A search that fills its run folder, for every command that searches."""

from __future__ import annotations

import time
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supermask.cli import _options as opt
from supermask.cli._pace import Pace
from supermask.cli._progress import Silent, reporter, rows
from supermask.cli._trackers import Trackers
from supermask.config import SearchConfig
from supermask.errors import BadFileError, DiskError, DivergedError, SupermaskError
from supermask.runtime.stopping import Stopping

if TYPE_CHECKING:
    from supermask.engine.problem import Parts
    from supermask.engine.snapshot import Snapshot
    from supermask.experiments.search import Outcome
    from supermask.runs.folder import RunFolder


SHOWN = ("val_accuracy", "train_accuracy", "density", "epochs", "ticket_bytes")
"""What is told of a result, in numbers."""


def own_folder(runs_dir: Path, config: SearchConfig) -> Path:
    """The run folder of a config, unless the user names one; for built-in methods known without JAX."""
    from supermask.resolve import filled
    from supermask.runs.index import default_path

    plain = SearchConfig(arch=config.arch, dataset=config.dataset, method=config.method)
    return default_path(runs_dir, filled(config), filled(plain))


def resolved(config: SearchConfig, device: str) -> SearchConfig:
    """See `build.resolve`; also a UsageError if a GPU was asked for and there is none. Imports JAX."""
    opt.require_device(device)
    from supermask.engine.problem import resolve

    return resolve(config)


def search_in(
    path: Path,
    config: SearchConfig,
    device: str,
    stopping: Stopping,
    pace: Pace,
    trackers: Trackers,
    *,
    data_dir: Path | None,
    quiet: bool,
    force: bool = False,
    embed_weights: bool = False,
) -> tuple[list[dict[str, Any]], SupermaskError | None, bool]:
    """The results of a run folder: known if its search is finished, else searched for, on from its newest checkpoint.

    The folder is claimed before JAX is imported, so that others who want it hear of it soon.

    Returns:
        one result per seed; if a signal or the time limit ended the search early, the error to end with, and the
        results are then of the best tickets so far; whether they were known.

    Raises:
        InterruptionError, StoppedError: a signal, before there was anything to lose.
        RunFolderError, UsageError, BadFileError, DivergedError: see `claimed`, `finished`, `build` and `search`.
    """
    from supermask.runs.folder import claimed
    from supermask.runs.index import devices_of, finished, is_open

    if config.devices is None and not force and (devices := devices_of(path)):
        # A search goes on as it began, on a machine of another number of cores as well.
        config = config.replace(devices=devices)
        opt.choose_device(device, devices)

    def known() -> list[dict[str, Any]] | None:
        results = None if force or is_open(path) else finished(path, resolved(config, device))
        if not all(type(row.get(key)) in (int, float) for row in results or [] for key in SHOWN):
            raise BadFileError(f"{path}/result.json is damaged; --force searches anew")
        if results is not None and not quiet:
            click.echo(f"{path} is finished; this is its result (--force searches anew)", err=True)
        return results

    if (results := known()) is not None:
        return results, None, True
    with claimed(path) as folder:
        stopping.clean_up = folder.discard
        try:
            whole = resolved(config, device)
            if (results := known()) is not None:  # another process was done between our look and our claim
                return results, None, True
            results, stopped = _search_into(
                folder, whole, stopping, pace, trackers, data_dir, quiet, force, embed_weights
            )
        finally:
            stopping.clean_up = lambda: None
    return results, stopped, False


def _search_into(
    folder: RunFolder,
    config: SearchConfig,
    stopping: Stopping,
    pace: Pace,
    trackers: Trackers,
    data_dir: Path | None,
    quiet: bool,
    force: bool,
    embed_weights: bool,
) -> tuple[list[dict[str, Any]], SupermaskError | None]:
    """Search a resolved config and close its claimed run folder; see `search_in`."""
    from supermask.engine.problem import build

    folder.begin(config, force=force)
    with reporter(quiet, int(config.epochs or 0)) as progress:
        parts = build(config, data_dir)
        progress.note(f"{config.method} on {config.dataset}, {config.arch}: run folder {folder.path}")
        if parts.batch_size != config.batch_size:
            progress.note(
                f"note: there are {parts.batch_size} training images, fewer than a batch of {config.batch_size}"
            )
        for complaint in folder.complaints:
            progress.note(f"warning: {complaint}; the checkpoint before it is used")
        try:
            trackers.open(folder.path.name, folder.working, config.to_dict(), progress.note)
            results, goes_on = _fill(folder, parts, progress, stopping, pace, trackers, embed_weights)
        except (DivergedError, DiskError) as error:
            if isinstance(error, DivergedError) and folder.results:  # of seeds that are done
                folder.close(folder.results, complete=False)
            last = folder.last_checkpoint()
            raise type(error)(f"{error}; the last good checkpoint is {last}" if last else str(error)) from None
        finally:
            trackers.close()
    folder.close(results, complete=goes_on is None)
    if goes_on is None:
        return results, None
    best = f"; the best ticket so far is {results[-1]['ticket']}" if results else ""
    same = "the same command, without --force," if force and goes_on != "starts anew" else "the same command"
    return results, stopping.error(f"{same} {goes_on}{best}")


def _fill(
    folder: RunFolder,
    parts: Parts,
    progress: Silent,
    stopping: Stopping,
    pace: Pace,
    trackers: Trackers,
    embed_weights: bool,
) -> tuple[list[dict[str, Any]], str | None]:
    """Search, writing metrics, checkpoints and tickets as they come.

    Returns:
        one result per seed, and where the same command goes on, None if it is complete.
    """
    from supermask.engine.snapshot import Snapshot
    from supermask.experiments.search import Observer, outcomes

    results, keeper = folder.results, _Keeper(folder, pace)
    resume = Snapshot.unpack(*folder.resumed) if folder.resumed else None
    if resume:
        progress.note(f"going on from step {resume.steps_done} of seed {resume.first}")

    def epoch(metrics: Any) -> None:
        progress.epoch(metrics)
        for row in rows(metrics):
            folder.add_metrics(row)
            trackers.log(row)

    def steps(seeds: tuple[int, ...], done: int, total: int, loss: float) -> None:
        stopping.careless = False
        progress.steps(seeds, done, total, loss)

    observer = Observer(
        epoch=epoch,
        steps=steps,
        due=keeper.due,
        save=keeper.save,
        stop=stopping.wished,
    )
    done = list(results)
    for outcome in outcomes(parts, observer, resume):
        progress.note(
            f"seed {outcome.ticket.config.seed}: {outcome.compile_seconds:.1f} s compiling, "
            f"{outcome.train_seconds:.1f} s searching"
        )
        ticket = outcome.ticket.embed_weights() if embed_weights else outcome.ticket
        path = folder.add_ticket(ticket)
        done.append(_result(outcome, folder.path, path, len(ticket.to_bytes())))
        stopping.careless = False  # now there is something to lose
        if not outcome.interrupted:
            results[:] = done
    return done, None if len(results) == parts.config.seeds else keeper.goes_on


class _Keeper:
    """Saves checkpoints when they are due."""

    def __init__(self, folder: RunFolder, pace: Pace) -> None:
        self._folder, self._pace = folder, pace
        self._saved, self._epochs, self._seeds = time.monotonic(), 0, len(folder.results)
        self.goes_on = "starts anew"

    def due(self, epochs_done: int) -> bool:
        """Whether it is time, or a seed is done since the last one."""
        if len(self._folder.results) > self._seeds:
            return True
        if self._pace.epochs is not None:
            return epochs_done % self._pace.epochs == 0 and epochs_done != self._epochs
        return time.monotonic() - self._saved > self._pace.seconds

    def save(self, snapshot: Snapshot) -> None:
        """Write it into the run folder, beside the results of the seeds that are done."""
        document, tensors = snapshot.pack()
        number = snapshot.first * 10**9 + snapshot.steps_done
        self._folder.add_checkpoint(number, document, tensors, self._folder.results)
        self._saved, self._epochs, self._seeds = time.monotonic(), snapshot.epochs_done, len(self._folder.results)
        where = f"step {snapshot.steps_done}" if snapshot.steps_done else f"seed {snapshot.first}"
        self.goes_on = f"goes on from {where}"


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
