"""supermask tune: finds the best of many settings by successive halving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from supermask.cli import _options as opt
from supermask.cli._axes import AxesCommand, axis_options, behind, check, default_path, typed_axes
from supermask.cli._launch import launch_options
from supermask.cli._launch import launcher as make_launcher
from supermask.cli._memory import memory_options
from supermask.cli._sweep import reporter
from supermask.config.sweep import Cell, Sweep, merged
from supermask.errors import StoppedError, UsageError
from supermask.runtime.stopping import Stopping

EPILOG = """\b
Examples:
  supermask tune --lr 0.001,0.01,0.1 --weight-decay 0,1e-4,1e-3 -- --arch lenet300 --dataset mnist
  supermask tune --method edge-popup,bernoulli --lr 0.001,0.01,0.1 --trials 4 --seeds 0-1
  supermask search --recipe tunes/NAME/best.toml --seed 7"""


@click.command(cls=AxesCommand, epilog=EPILOG, options_metavar="[OPTIONS] [-- OPTIONS]")
@opt.option(
    "--command",
    "called",
    type=opt.Names(("search", "train")),
    default="search",
    show_default=True,
    help="The command to call.",
)
@partial(axis_options, but=("epochs",))
@opt.option(
    "--epochs",
    type=click.IntRange(1),
    default=27,
    show_default=True,
    help="Epochs of the last round.",
    group="training",
)
@opt.option(
    "--first", type=click.IntRange(1), default=1, show_default=True, help="The fewest epochs.", group="training"
)
@opt.option(
    "--factor",
    type=click.IntRange(2),
    default=3,
    show_default=True,
    help="Each round keeps one of so many candidates, and trains so many times as long.",
    group="training",
)
@opt.option(
    "--trials", type=click.IntRange(1), help="Draw so many combinations at random.  [default: all]", group="training"
)
@memory_options
@launch_options
@opt.option(
    "--retry", type=click.IntRange(0), default=0, show_default=True, help="How often to call a cell that failed again."
)
@opt.option("--out", type=opt.PATH, help="Folder of the rounds and the recipe.  [default: tunes/COMMAND-HASH]")
@opt.option("--dry-run", is_flag=True, help="Print the rounds and stop.")
@opt.quiet_option
@opt.json_option
@click.pass_context
def command(
    ctx: click.Context,
    called: str,
    pairs: tuple[str, ...],
    arch_pairs: tuple[str, ...],
    epochs: int,
    first: int,
    factor: int,
    trials: int | None,
    jobs: int | None,
    devices: str | None,
    launcher: str,
    retry: int,
    out: Path | None,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    **values: str | None,
) -> None:
    """Find the combination of values with the best validation accuracy, and write it as a recipe.

    All combinations train for a few epochs, the best third of them for three times as many, up to --epochs. With
    several --seeds the mean counts; the test split is not looked at. VALUES are those of `sweep`, as is what follows
    --. Calling it again goes on where it was stopped.
    """
    from supermask.experiments.tune import Halving, Ranked, candidates_of, count_of, tune

    sweep = merged(None, called, typed_axes(values, pairs, arch_pairs), behind(ctx))
    if any(word.split("=")[0] == "--epochs" for word in sweep.words):
        raise UsageError("each round has its own epochs: give --epochs, those of the last one, before --")
    check(sweep)
    if 0 in map(float, (*sweep.axes.get("validation", ()), *_handed_on(sweep.words, "--validation"))):
        raise UsageError("with --validation 0 nothing is held out to choose by: leave it out")
    say, halving, candidates = opt.printer(quiet), Halving(epochs, factor, first), candidates_of(sweep, trials)
    if len(candidates) < 2:
        raise UsageError("there is one combination of values, so there is nothing to tune")
    if dry_run:
        for number, (count, length) in enumerate(halving.rounds(len(candidates)), 1):
            row = {"round": number, "candidates": count, "epochs": length}
            opt.print_json(row) if as_json else click.echo(f"round {number}: {count_of(count)}, {length} epochs")
        return
    path = out or default_path("tunes", sweep)
    executor = make_launcher(launcher, jobs, devices)
    with Stopping() as stopping:

        def call(longer: Sweep, folder: Any, cells: Sequence[Cell]) -> Mapping[str, Mapping[str, Any]]:
            from supermask.experiments.sweep import Policy, run_sweep

            with reporter(len(cells), folder, as_json, quiet, rows=False) as watcher:
                outcome = run_sweep(longer, folder, executor, Policy(retry=retry), watcher, stopping, cells)
            if outcome.stopped:
                raise StoppedError(f"{outcome.stopped} cells were stopped; the same command goes on with them")
            return outcome.failures

        best: Ranked | None = None
        for length, ranked in tune(sweep, path, candidates, halving, call, say):
            best = ranked[0]
            for rank, one in enumerate(ranked, 1):
                _show({"epochs": length, "rank": rank, **one.candidate.values, "val_accuracy": one.accuracy}, as_json)
    assert best is not None
    say(f"the best one as a recipe: {_write(path, sweep, best)}")


def _handed_on(words: Sequence[str], name: str) -> list[str]:
    """The values of an option among words of a command."""
    after = [value for word, value in pairwise(words) if word == name]
    return after + [word.partition("=")[2] for word in words if word.startswith(f"{name}=")]


def _show(row: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        opt.print_json(dict(row))
    else:
        words = [f"{key} {value:.4f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()]
        click.echo("  ".join(words))


def _write(path: Path, sweep: Sweep, best: Any) -> Path:
    from supermask.recipes._own import write
    from supermask.runs.index import read_config

    file, seeds = path / "best.toml", len(best.candidate.cells)
    mean = f", the mean of {seeds} seeds" if seeds > 1 else ""
    comment = f"Found by `supermask tune`: validation accuracy {best.accuracy:.4f}{mean}."
    write(file, sweep.command, read_config(best.run / "config.json"), comment)
    return file
