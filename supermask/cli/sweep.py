"""supermask sweep: calls a command for every combination of values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from supermask.cli import _options as opt
from supermask.cli._axes import AxesCommand, axis_options, behind, check, default_path, typed_axes
from supermask.cli._cells import LISTED, MEASURED, estimate, show_cells
from supermask.cli._launch import launch_options, local
from supermask.cli._launch import launcher as make_launcher
from supermask.cli._memory import memory_options
from supermask.cli._sweep import reporter
from supermask.config.sweep import COMMANDS, Sweep, flag, merged
from supermask.errors import UsageError
from supermask.launchers.slurm import submit
from supermask.runtime import memory
from supermask.runtime.stopping import Stopping

EPILOG = """\b
Examples:
  supermask sweep --arch conv2,conv4 --density 0.1:0.9:0.2 --seeds 0-4
  supermask sweep --method edge-popup,bernoulli --lr 0.1,0.01 -- --dataset mnist --epochs 3
  supermask sweep --command train --arch lenet300,conv2 --devices 0,1,2,3
  supermask sweep grid.toml --jobs 2 --retry 1
  supermask sweep sweeps/NAME --only-failed
  supermask results sweeps/NAME"""


@click.command(cls=AxesCommand, epilog=EPILOG, options_metavar="[OPTIONS]")
@click.argument("source", required=False, metavar="[FILE.toml | SWEEP] [-- OPTIONS]")
@opt.option("--command", "called", type=opt.Names(COMMANDS), help="The command to call.  [default: search]")
@axis_options
@memory_options
@launch_options
@opt.option(
    "--slurm",
    type=click.IntRange(1),
    metavar="TASKS",
    help="Submit an array job of this many tasks, which share the cells, and stop.",
    group="machine",
)
@opt.option(
    "--sbatch",
    multiple=True,
    metavar="OPTION",
    group="machine",
    help="--slurm: an option of sbatch, as in --sbatch=--gres=gpu:1; may be repeated.",
)
@opt.option("--fail-fast/--keep-going", default=False, show_default=True, help="Stop at the first cell that fails.")
@opt.option(
    "--retry", type=click.IntRange(0), default=0, show_default=True, help="How often to call a cell that failed again."
)
@opt.option("--only-failed", is_flag=True, help="Call only cells that failed before.")
@opt.option("--out", type=opt.PATH, help="Folder of the sweep.  [default: sweeps/COMMAND-HASH]")
@opt.option("--dry-run", is_flag=True, help="Print the cells, what they are expected to take, and stop.")
@opt.option(
    "--measure",
    type=click.IntRange(0),
    metavar="N",
    help="--dry-run: train this many kinds of cells for a moment, to estimate time and memory; 0 only lists.  "
    f"[default: {MEASURED}, or 0 for more than {LISTED:,} cells]",
)
@opt.quiet_option
@opt.json_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str | None,
    called: str | None,
    pairs: tuple[str, ...],
    arch_pairs: tuple[str, ...],
    jobs: int | None,
    devices: str | None,
    launcher: str,
    slurm: int | None,
    sbatch: tuple[str, ...],
    fail_fast: bool,
    retry: int,
    only_failed: bool,
    out: Path | None,
    dry_run: bool,
    measure: int | None,
    quiet: bool,
    as_json: bool,
    **values: str | None,
) -> None:
    """Call search, train, lottery or forget for every combination of values, one run folder each.

    VALUES are separated by commas; FIRST:LAST:STEP is a range with both ends, and 0-4 one of seeds. What follows -- is
    handed on to every call; values that hold commas themselves go there. Calling it again skips cells that are
    finished, goes on with those that were stopped and tries those again that failed; so do other processes at the same
    time, on this or another machine that shares the folder.
    """
    from supermask.runs.sweep import SweepFolder

    fixed, typed = behind(ctx), typed_axes(values, pairs, arch_pairs)
    base, folder = _source(source)
    sweep = merged(base, called, typed, fixed)
    if folder and (typed or fixed or called):
        raise UsageError(
            f"{source} says what its cells are: leave out {flag(next(iter(typed), 'command'))} and the like"
        )
    check(sweep)
    there = SweepFolder(out or folder or default_path("sweeps", sweep))
    if measure is not None and not dry_run:
        raise UsageError("--measure is about --dry-run: give both")
    if slurm and launcher != "local":
        raise UsageError("--slurm has its tasks run the calls: leave out --launcher")
    if dry_run:
        here = local(jobs, None if launcher == "ray" else devices)
        found = estimate(sweep, there, here, measure, opt.printer(quiet))
        show_cells(sweep, there, found, as_json, here.slots * (slurm or 1), opt.printer(quiet))
        return
    if sbatch and not slurm:
        raise UsageError("--sbatch is about --slurm TASKS: give both")
    if slurm:
        words = _words(
            jobs=jobs, devices=devices, retry=retry, fail_fast=fail_fast, only_failed=only_failed, quiet=quiet
        )
        words += _words(workers=os.environ.get(memory.WORKERS), resident_limit=os.environ.get(memory.LIMIT))
        there.begin(sweep)
        click.echo(submit(there.path, slurm, words, sbatch), err=True)
        return
    from supermask.experiments.sweep import Policy, failed, run_sweep

    executor = make_launcher(launcher, jobs, devices)
    with Stopping() as stopping:
        begun = there.begin(sweep)
        whole = begun if folder else sweep
        with reporter(len(whole), there, as_json, quiet) as watcher:
            outcome = run_sweep(whole, there, executor, Policy(fail_fast, retry, only_failed), watcher, stopping)
    if error := failed(outcome):
        raise error


def _words(**options: Any) -> list[str]:
    """The words for options of this command that are neither None, 0 nor False."""
    named = {name.replace("_", "-"): value for name, value in options.items() if value}
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in named.items()]


def _source(source: str | None) -> tuple[Sweep | None, Path | None]:
    """Return (what the file or folder says, the folder)."""
    if source is None:
        return None, None
    from supermask.runs.sweep import FILE, SweepFolder

    path = opt.expand(source)
    if path.is_dir():
        found = SweepFolder(path).read()
        if found is None:
            raise UsageError(f"{path} is not the folder of a sweep: it has no {FILE}")
        return found, path
    return Sweep.read(path), None
