"""Shared by search and train: the options of a run, its config, and printing its results."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supermask.cli import _options as opt
from supermask.cli._policy import policy, policy_options, seconds
from supermask.cli._progress import reporter
from supermask.cli._trackers import HELP, Trackers, tracker_options
from supermask.config import Config
from supermask.config.network import no_activation
from supermask.errors import UsageError
from supermask.experiments.options import RunOptions, RunResult
from supermask.resolve import resolve
from supermask.runtime.devices import choose_device, require_device
from supermask.runtime.stopping import Stopping

if TYPE_CHECKING:
    from supermask.experiments.run import Experiment
    from supermask.runtime.team import Hosts


@dataclass(frozen=True)
class Call:
    """The options about the run itself, in every command that fills a run folder."""

    config_file: Path | None
    resume: Path | None
    out: Path | None
    runs_dir: Path
    data_dir: Path | None
    device: str
    checkpoint_every: str
    time_limit: str | None
    dry_run: bool
    force: bool
    quiet: bool
    as_json: bool
    trackers: tuple[str, ...]

    def note(self, text: str) -> None:
        """Print a message on stderr, unless --quiet is set."""
        if not self.quiet:
            click.echo(text, err=True)


def run_options(command: opt.F) -> opt.F:
    """Add the options of a run; the command gets them as one argument, `call`."""

    @functools.wraps(command)
    def with_call(*args: Any, **values: Any) -> Any:
        trackers = tuple(name for name in HELP if values.pop(name))
        own = {item.name: values.pop(item.name) for item in fields(Call) if item.name != "trackers"}
        return command(*args, call=Call(**own, trackers=trackers), **values)

    decorated: opt.F = with_call
    for decorate in reversed(
        (
            opt.option("--config", "config_file", type=opt.PATH, help="Take defaults from a run's config.json."),
            opt.option(
                "--resume",
                type=opt.PATH,
                metavar="RUN",
                help="Resume this run folder, with its config and checkpoint; --dataset says where its data lies now.",
            ),
            policy_options,
            tracker_options,
            opt.option("--out", type=opt.PATH, help="Run folder.  [default: named after the config, in --runs-dir]"),
            opt.option(
                "--runs-dir", type=opt.PATH, default=Path("runs"), show_default=True, help="Folder for run folders."
            ),
            opt.data_dir_option,
            opt.device_option,
            opt.option("--dry-run", is_flag=True, help="Print the resolved config and stop."),
            opt.option("--force", is_flag=True, help="Start over, whatever the run folder holds."),
            opt.quiet_option,
            opt.json_option,
        )
    ):
        decorated = decorate(decorated)
    return decorated


def run(
    experiment: Callable[[], Experiment],
    call: Call,
    ctx: click.Context,
    read: Callable[[Path | None], Config],
    show: Callable[[RunResult], None],
    hosts: Hosts | None = None,
    **more: Any,
) -> None:
    """Run an experiment in its folder and show its results; with `--dry-run`, only print its config.

    Args:
        read: the config of the call, over a config file; resolved here, once.
        show: prints the results; also of a run that was stopped, before its error ends the command.
        hosts: see RunOptions.
        more: other fields of RunOptions.
    """
    from supermask.experiments.run import run_experiment

    config_file, out = _resumed(call) if call.resume is not None else (call.config_file, call.out)
    moved = call.resume is not None and "dataset" in opt.typed(ctx)
    checkpoints = policy(call.checkpoint_every)
    limit = seconds("time-limit", call.time_limit) if call.time_limit else None
    progress = reporter(call.quiet)
    trackers = Trackers(call.trackers, progress.on_note)
    with Stopping(limit) as stopping:
        asked = read(config_file)
        here = asked.devices if hosts is None else hosts.local(asked.devices)
        choose_device(call.device, here)  # a user's own plug-ins import JAX
        config = resolve(asked)
        if "activation" in opt.typed(ctx) and config.activation is None:
            raise no_activation(config.arch)
        dataset = None
        if moved:  # the run keeps its config
            dataset, config = config.dataset, config.replace(dataset=_dataset_of(config_file))
        if call.dry_run:
            _print_config(config, call)
            return
        options = RunOptions(
            path=out or _own_run(ctx, config, config_file),
            root=call.runs_dir,
            data_dir=call.data_dir,
            dataset=dataset,
            device=call.device,
            force=call.force,
            checkpoints=checkpoints,
            callbacks=(progress, trackers) if hosts is None or not hosts.process else (),
            hosts=hosts,
            **more,
        )
        # The name of a folder depends on `devices` only if they were typed, not if they were read from a file.
        named_after = config if "devices" in opt.typed(ctx) else config.replace(devices=None)
        result = run_experiment(experiment, config, options, stopping, named_after)
        show(result)
    if result.stopped:
        raise result.stopped


def _print_config(config: Config, call: Call) -> None:
    """Print the config on stdout, and on stderr what becomes of each parameter."""
    require_device(call.device)
    from supermask.cli._tables import parameter_table
    from supermask.engine.problem import on_this_machine, outline
    from supermask.weights.parameters import rows_of

    config = on_this_machine(config)
    click.echo(json.dumps(config.to_dict(), indent=None if call.as_json else 2, sort_keys=True))
    if not call.as_json and not call.quiet:
        problem = outline(config, call.data_dir)
        own = problem.initial(config.seed)[0]
        click.echo(parameter_table(rows_of(problem.parameters, own, config.init or "given")), err=True)


def _resumed(call: Call) -> tuple[Path, Path]:
    """Return (config file, run folder) for --resume."""
    from supermask.runs.index import hidden_path

    path = call.resume
    assert path is not None
    if call.out or call.config_file:
        raise UsageError("--resume takes config and folder from the run: leave out --out and --config")
    if path.is_file():
        raise UsageError(f"--resume takes a run folder, but {path} is a file: give {path.parent}")
    path = path if path.name not in ("", "..") else path.resolve()
    # A process that was killed left its config in the hidden folder.
    there, hidden = path / "config.json", hidden_path(path) / "config.json"
    return (hidden if hidden.is_file() and not there.is_file() else there), path


def _own_run(ctx: click.Context, config: Config, config_file: Path | None) -> Path | None:
    """Return the finished run whose config.json was given, if the call changes nothing in it; else None."""
    from supermask.config.earlier import completed
    from supermask.config.kinds import config_class
    from supermask.runs.index import read_config

    if config_file is None or "runs_dir" in opt.typed(ctx) or not (config_file.parent / "result.json").is_file():
        return None
    values = completed(read_config(config_file))
    return config_file.parent if config_class(values).from_dict(values) == config else None


def _dataset_of(config_file: Path | None) -> str:
    """The dataset that a config file names."""
    from supermask.runs.index import read_config

    assert config_file is not None
    return str(read_config(config_file)["dataset"])
