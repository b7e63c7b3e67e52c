"""supermask forget: trains, forgets and trains again, generation after generation."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import click

from supermask.cli import _options as opt
from supermask.cli import _tables
from supermask.cli._experiment import Call, run, run_options
from supermask.cli._help import GroupedCommand
from supermask.cli._hosts import hosts_options
from supermask.cli._plot import plot_option
from supermask.config.forget import ForgetConfig
from supermask.experiments.options import Rows, RunResult

if TYPE_CHECKING:
    from supermask.experiments.run import Experiment
    from supermask.runtime.team import Hosts

EPILOG = """\b
Examples:
  supermask forget --arch lenet300 --dataset mnist --generations 5 --long --plot forget.png
  supermask forget --arch resnet18 --dataset cifar100 --layer layer4 --generations 10
  supermask forget --op kels --split 0.5 --generations 10 --freeze kept
  supermask forget --recipe zhou2022-llf-n3 --dataset folder:flowers --epochs 20 --warmup 1
  supermask forget --json | jq '[.generation, .branch, .forgotten_train_accuracy, .test_accuracy]'"""

COLUMNS = {
    "forgotten train": "forgotten_train_accuracy",
    "forgotten test": "forgotten_test_accuracy",
    "val": "val_accuracy",
    "test": "test_accuracy",
    "slim test": "slim_test_accuracy",
}
"""Heading of the table -> column of the rows."""


@click.command(cls=GroupedCommand, epilog=EPILOG)
@partial(opt.config_options, kind=ForgetConfig)
@opt.arch_option
@opt.recipe_option
@plot_option("Draw test accuracy against generations.")
@hosts_options
@run_options
@click.pass_context
def command(
    ctx: click.Context,
    call: Call,
    arch_pairs: tuple[str, ...],
    recipe: str | None,
    plot: Path | None,
    hosts: Hosts | None,
    **values: Any,
) -> None:
    """Train a network, let it forget a part of what it learned and train it again, generation after generation.

    Writes a run folder with the weights of every generation, and prints accuracy by generation, right after forgetting
    and after relearning: a table of means over the seeds, or with --json one object per trained network. Calling it
    again prints the result of the finished run, or continues where it was stopped.
    """
    arch_options = opt.parse_options(arch_pairs, "-a")
    base = opt.base_of(recipe, call.resume, ForgetConfig)

    def read(file: Path | None) -> ForgetConfig:
        return opt.read_config(ctx, base, file, values, opt.given(arch_options=arch_options or None), ForgetConfig)

    def show(result: RunResult) -> None:
        if call.as_json:
            for row in result.rows:
                opt.print_json(row)
        elif result.rows:
            click.echo(_tables.table(_means(result.rows)))
            if any("probe" in row for row in result.rows):
                click.echo("\n" + _tables.table(_probes(result.rows)))
            if any(len({found.get("step") for found in row.get("probe", ())}) > 1 for row in result.rows):
                call.note("note: the table is of the last step of each training; --json has the probes before it too")
        if plot and result.rows:
            _draw(result.rows, plot)

    run(_forget, call, ctx, read, show, hosts)


def _forget() -> Experiment:
    from supermask.experiments.forget import Forget

    return Forget()


def _draw(rows: Rows, path: Path) -> None:
    from supermask.report.curves import curves

    title = f"{rows[0]['arch']} on {rows[0]['dataset']}"
    curves(rows, path, x="generation", y="test_accuracy", label="branch", title=title)


def _means(rows: Rows) -> list[list[str]]:
    """A table of one line per generation and branch, with means over the seeds."""
    groups: dict[tuple[int, str], Rows] = {}
    for row in rows:
        groups.setdefault((row["generation"], row["branch"]), []).append(row)
    shown = {heading: key for heading, key in COLUMNS.items() if any(key in row for row in rows)}
    cells = [["generation", "branch", "epochs", *shown, "test by seed"]]
    for (number, branch), group in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] == "long")):
        line = [str(number), branch, str(group[0]["epochs"])]
        line += [f"{fmean(row[key] for row in group):.4f}" if key in group[0] else "" for key in shown.values()]
        cells.append([*line, " ".join(f"{row['test_accuracy']:.4f}" for row in group)])
    return cells


def _probes(rows: Rows) -> list[list[str]]:
    """A table of accuracies on groups of training images before and after copies of the trained networks forget, with
    means over the seeds."""
    groups: dict[tuple[str, ...], Rows] = {}
    for row in rows:
        last = row["probe"][-1].get("step")  # runs of earlier versions have none
        for found in (found for found in row["probe"] if found.get("step") == last):
            key = (str(row["generation"]), row["branch"], found["probe"], found["group"])
            groups.setdefault(key, []).append(found)
    cells = [["generation", "branch", "probe", "training images", "before", "after"]]
    for words, group in groups.items():
        cells.append([*words, *(f"{fmean(found[when] for found in group):.4f}" for when in ("before", "after"))])
    return cells
