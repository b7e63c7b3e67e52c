"""Runs an experiment durably, with a folder, checkpoints and phases; commands and Python callers use the same code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from supermask.config import Config, SearchConfig
from supermask.config.earlier import added_options
from supermask.data.source import Source
from supermask.data.splits import noun_of
from supermask.engine.callbacks import Callbacks
from supermask.errors import DiskError, DivergedError, StoppedError
from supermask.experiments.content import check_finished, check_moved
from supermask.experiments.options import Rows, RunOptions, RunResult
from supermask.experiments.session import Session
from supermask.experiments.together import Guest, check_shared, facts_of, share
from supermask.experiments.warnings import tell
from supermask.resolve import resolve
from supermask.runs.folder import RunFolder, claimed
from supermask.runs.index import default_path, devices_of, finished, is_open
from supermask.runtime import hosts
from supermask.runtime.devices import choose_device, offer_cpu_devices, require_device
from supermask.runtime.numerics import fixed_numerics
from supermask.runtime.stopping import Stopping

if TYPE_CHECKING:
    from supermask.engine.problem import Problem


class Experiment(Protocol):
    """What a run does, phase by phase."""

    def run(self, session: Session, problem: Problem) -> Rows:
        """Run all phases that are not in `session.folder.phases`; return one result per seed, or for seeds that were
        stopped the best so far."""


def run_experiment(
    experiment: Callable[[], Experiment],
    config: Config,
    options: RunOptions,
    stopping: Stopping | None = None,
    named_after: Config | None = None,
) -> RunResult:
    """Return the results in a run folder if its run is finished; otherwise run it, resuming at its newest checkpoint.

    The folder is claimed before JAX is imported, so other processes that want it soon learn that it is in use.

    Args:
        config: resolved.
        experiment: called once JAX is set up.
        stopping: turns signals into requests to stop; None does so for the duration of this call.
        named_after: the config that decides the name of the default run folder, if it is another one.

    Raises:
        RunFolderError, UsageError, BadFileError, DivergedError: see `claimed`, `finished`, `load_problem`, `Trainer`.
    """
    if stopping is None:
        with Stopping(ends_process=False) as stopping:
            return run_experiment(experiment, config, options, stopping, named_after)
    stopping.last_words = hosts.say_farewell
    if options.hosts is None:
        return _run_here(experiment, config, options, stopping, named_after)
    if options.device:
        choose_device(options.device, options.devices_here(config.devices))
    with hosts.joined(options.hosts, facts_of(config), stopping.end):
        return _run_here(experiment, config, options, stopping, named_after)


def _run_here(
    experiment: Callable[[], Experiment],
    config: Config,
    options: RunOptions,
    stopping: Stopping,
    named_after: Config | None,
) -> RunResult:
    """Do the part of this process, see `run_experiment`."""
    source = Source(config, options.data_dir, options.dataset)
    path = options.path or run_path(options.root, named_after or config, source)
    if path.is_symlink():
        path = path.resolve()  # fill the folder that the link points to, and keep the link
    if hosts.leads():
        check_moved(path, options)
    if config.devices is None and not options.force:
        # Resume with the number of devices that the run began with, even on a machine with another number of cores.
        config = config.replace(devices=hosts.of_leader(devices_of(path)))
    if options.device:
        choose_device(options.device, options.devices_here(config.devices))
    if count := options.devices_here(config.devices):
        offer_cpu_devices(count)
    if hosts.processes() > 1:
        config = _here(config, options)
    if not hosts.leads():
        return _follow(Guest(path), experiment, config, source, options, stopping)

    def known() -> RunResult | None:
        if options.force or is_open(path):
            return None
        rows = finished(path, config if config.devices else _here(config, options))
        if rows is None:
            return None
        check_finished(path, source, options.note)
        return _told_again(path, rows, options)

    if (result := known()) is not None:
        hosts.of_leader(True)
        return result
    with claimed(path) as folder:
        stopping.clean_up = folder.discard
        if folder.lock.note:
            options.note(f"warning: {folder.lock.note}")
        try:
            config = config if hosts.processes() > 1 else _here(config, options)
            with fixed_numerics(options.note):
                result = known()  # another process may have finished the run between our check and our claim
                hosts.of_leader(result is not None)
                return result or _run_in(folder, experiment, config, source, options, stopping)
        finally:
            stopping.clean_up = lambda: None


def _follow(
    folder: RunFolder,
    experiment: Callable[[], Experiment],
    config: Config,
    source: Source,
    options: RunOptions,
    stopping: Stopping,
) -> RunResult:
    """Do what process 0 does, and leave the folder and the results to it."""
    with fixed_numerics(options.note):
        if hosts.of_leader(None):
            return RunResult(folder.path, [], known=True)
        return replace(_run_in(folder, experiment, config, source, options, stopping), rows=[])


def _told_again(path: Path, rows: Rows, options: RunOptions) -> RunResult:
    """Return the result of a run that was finished before, and tell its warnings."""
    options.note(f"{path} is finished; this is its result (--force starts over)")
    for row in rows:
        tell(options.callbacks, row["warnings"], row.get("seed"))
    return RunResult(path, rows, known=True)


def completed(experiment: Callable[[], Experiment], config: Config, options: RunOptions) -> RunResult:
    """Run a config that need not be resolved to its end, see `run_experiment`.

    Raises:
        StoppedError, InterruptionError: a signal or a callback stopped it; its checkpoint is saved.
    """
    result = run_experiment(experiment, resolve(config), options)
    if result.stopped:
        raise result.stopped
    return result


def run_path(root: Path, config: Config, source: Source | None = None) -> Path:
    """The run folder of a resolved config, unless the user names one; `source` is where its data lies."""
    names = {key: getattr(config, key) for key in ("arch", "dataset", "method") if hasattr(config, key)}
    defaults = resolve(type(config)(**names))
    if isinstance(defaults, SearchConfig):  # so that a run whose options mean something new has a name of its own
        defaults = defaults.replace(options={**defaults.options, **added_options(defaults.method)})
    return default_path(root, config, defaults, (source or Source(config)).named)


def _here(config: Config, options: RunOptions) -> Config:
    """Fill in what depends on this machine in a resolved config. Imports JAX."""
    require_device(options.device or "auto")
    from supermask.engine.problem import on_this_machine

    return on_this_machine(config)


def _run_in(
    folder: RunFolder,
    experiment: Callable[[], Experiment],
    config: Config,
    source: Source,
    options: RunOptions,
    stopping: Stopping,
) -> RunResult:
    """Run in a claimed folder and close it; see `run_experiment`."""
    from supermask.engine.problem import load_problem

    folder.require_owner(config, options.force)
    made_of = source.content | source.files
    folder.require_owner(config, options.force, made_of)  # other data may not even fit the network
    problem = load_problem(config, source)  # before `begin`, which under --force removes a checkpoint
    check_shared(problem)
    folder.begin(config, made_of, force=options.force)
    share(folder, problem, source.content)
    options.note(f"{config.label} on {config.dataset}, {config.arch}: run folder {folder.path}")
    if problem.pipeline.batch_size != config.batch_size:
        options.note(
            f"note: there are {problem.pipeline.batch_size} training {noun_of(problem.dataset)}, fewer than a batch of "
            f"{config.batch_size}"
        )
    for complaint in folder.complaints:
        options.note(f"warning: {complaint}; the checkpoint before it is used")
    session = Session(folder, options, stopping)
    callbacks = Callbacks(options.callbacks)
    try:
        callbacks.on_begin(folder.working, config)
        rows = experiment().run(session, problem)
    except (DivergedError, DiskError) as error:
        done = folder.finished_rows()
        if isinstance(error, DivergedError) and done:
            folder.close(done, complete=False)
        last = folder.last_checkpoint()
        raise type(error)(f"{error}; the last good checkpoint is {last}" if last else str(error)) from None
    finally:
        callbacks.on_end()
    folder.close(rows, complete=session.goes_on is None)
    if session.goes_on is None:
        return RunResult(folder.path, rows)
    anew = options.force and session.goes_on != "starts over"
    resumes = f"the same command{', without --force,' if anew else ''} {session.goes_on}"
    if rows:
        kind = "ticket" if "ticket" in rows[-1] else "weights"
        resumes += f"; the best {kind} so far: {rows[-1][kind]}"
    by_callback = StoppedError(f"stopped by a callback; {resumes}")
    return RunResult(folder.path, rows, stopping.error(resumes) if stopping.stop_requested() else by_callback)
