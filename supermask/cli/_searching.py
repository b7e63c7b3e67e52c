"""A search that fills its run folder, for every command that searches."""

from __future__ import annotations

import time
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supermask.cli._pace import Pace
from supermask.cli._progress import Silent, reporter, rows
from supermask.cli._stopping import Stopping
from supermask.cli._trackers import Trackers
from supermask.config import SearchConfig
from supermask.errors import DivergedError, SupermaskError

if TYPE_CHECKING:
    from supermask.build import Parts
    from supermask.loop import Outcome
    from supermask.run import RunFolder
    from supermask.snapshots import Snapshot


def own_folder(runs_dir: Path, config: SearchConfig) -> Path:
    """The run folder of a config, unless the user names one; for built-in methods known without JAX."""
    from supermask.defaults import filled
    from supermask.existing import default_path

    plain = SearchConfig(arch=config.arch, dataset=config.dataset, method=config.method)
    return default_path(runs_dir, filled(config), filled(plain))


def search_into(
    folder: RunFolder,
    config: SearchConfig,
    stopping: Stopping,
    pace: Pace,
    trackers: Trackers,
    *,
    data_dir: Path | None,
    quiet: bool,
    force: bool = False,
    embed_weights: bool = False,
) -> tuple[list[dict[str, Any]], SupermaskError | None]:
    """Search a resolved config and close its claimed run folder, going on from a checkpoint if there is one.

    Returns:
        one result per seed, and, if a signal or the time limit ended the search early, the error to end with; the
        results are then of the best tickets so far.

    Raises:
        InterruptionError, StoppedError: a signal, before there was anything to lose.
        RunFolderError, UsageError, BadFileError, DivergedError: see `RunFolder.begin`, `build` and `search`.
    """
    from supermask.build import build

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
            results, stopped_at = _fill(folder, parts, progress, stopping, pace, trackers, embed_weights)
        except SupermaskError as error:
            if type(error) not in (DivergedError, SupermaskError):  # the latter is of a disk that refused
                raise
            if isinstance(error, DivergedError) and folder.results:  # of seeds that are done
                folder.close(folder.results, complete=False)
            last = folder.last_checkpoint()
            raise type(error)(f"{error}; the last good checkpoint is {last}" if last else str(error)) from None
        finally:
            trackers.close()
    folder.close(results, complete=stopped_at is None)
    if stopped_at is None:
        return results, None
    best = f"; the best ticket so far is {results[-1]['ticket']}" if results else ""
    goes_on = f"goes on from step {stopped_at}" if stopped_at else "starts anew"
    return results, stopping.error(f"the same command {goes_on}{best}")


def _fill(
    folder: RunFolder,
    parts: Parts,
    progress: Silent,
    stopping: Stopping,
    pace: Pace,
    trackers: Trackers,
    embed_weights: bool,
) -> tuple[list[dict[str, Any]], int | None]:
    """Search, writing metrics, checkpoints and tickets as they come.

    Returns:
        one result per seed, and the step that it was stopped at, None if it is complete.
    """
    from supermask.loop import Observer, outcomes
    from supermask.snapshots import Snapshot

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
    return done, None if len(results) == parts.config.seeds else keeper.stopped_at


class _Keeper:
    """Saves checkpoints when they are due."""

    def __init__(self, folder: RunFolder, pace: Pace) -> None:
        self._folder, self._pace = folder, pace
        self._saved, self._epochs, self._seeds, self.stopped_at = time.monotonic(), 0, len(folder.results), 0

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
        self._saved, self._epochs, self.stopped_at = time.monotonic(), snapshot.epochs_done, snapshot.steps_done
        self._seeds = len(self._folder.results)


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
