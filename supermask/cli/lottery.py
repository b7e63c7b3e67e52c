"""supermask lottery: trains, prunes and trains again, round after round."""

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
from supermask.config.lottery import LotteryConfig
from supermask.experiments.options import Rows, RunResult

if TYPE_CHECKING:
    from supermask.experiments.run import Experiment
    from supermask.runtime.team import Hosts

EPILOG = """\b
Examples:
  supermask lottery --arch lenet300 --dataset mnist --rounds 12 --seeds 3 --plot lottery.png
  supermask lottery --arch lenet300 --dataset mnist --control redraw,signed-constant
  supermask lottery --arch resnet20 --dataset cifar10 --ranking global --keep 0.8
  supermask lottery --recipe renda2020-resnet20-wr12 --rounds 1 --epochs 2
  supermask lottery --arch conv4 --rounds 0 --control noise --rewind-step 500
  supermask lottery --json | jq 'select(.branch == "ticket") | [.density, .test_accuracy]'"""


@click.command(cls=GroupedCommand, epilog=EPILOG)
@partial(opt.config_options, kind=LotteryConfig)
@opt.arch_option
@opt.recipe_option
@plot_option("Draw test accuracy against density.")
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
    """Train a network, prune it, set the kept weights back and train them again, round after round.

    Writes a run folder with the weights of every round, and prints accuracy against density: a table of means over the
    seeds, or with --json one object per trained network. Calling it again prints the result of the finished run, or
    continues where it was stopped.
    """
    arch_options = opt.parse_options(arch_pairs, "-a")
    base = opt.base_of(recipe, call.resume, LotteryConfig)

    def read(file: Path | None) -> LotteryConfig:
        return opt.read_config(ctx, base, file, values, opt.given(arch_options=arch_options or None), LotteryConfig)

    def show(result: RunResult) -> None:
        if call.as_json:
            for row in result.rows:
                opt.print_json(row)
        elif result.rows:
            click.echo(_tables.table(_means(result.rows)))
        if plot and result.rows:
            _draw(result.rows, plot)

    run(_lottery, call, ctx, read, show, hosts)


def _lottery() -> Experiment:
    from supermask.experiments.lottery import Lottery

    return Lottery()


def _draw(rows: Rows, path: Path) -> None:
    from supermask.report.curves import curves

    shown = [row for row in rows if row["branch"] != "others"]
    title = f"{rows[0]['arch']} on {rows[0]['dataset']}"
    curves(shown, path, x="density", y="test_accuracy", label="branch", title=title, log_x=True)


def _means(rows: Rows) -> list[list[str]]:
    """A table of one line per round and branch, with means over the seeds."""
    cells = [["round", "branch", "density", "kept", "val", "test", "test by seed", "error barrier"]]
    groups: dict[tuple[int, str], Rows] = {}
    for row in rows:
        if row["branch"] != "others":
            groups.setdefault((row["round"], row["branch"]), []).append(row)
    for (number, branch), group in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] != "ticket")):
        line = [str(number), branch if number or branch != "ticket" else "dense"]
        line += [f"{fmean(row['density'] for row in group):.4f}", f"{round(fmean(row['kept'] for row in group)):,}"]
        line += [f"{fmean(row[key] for row in group):.4f}" for key in ("val_accuracy", "test_accuracy")]
        line.append(" ".join(f"{row['test_accuracy']:.4f}" for row in group))
        barriers = [row["error_barrier"] for row in group if "error_barrier" in row]
        cells.append([*line, f"{fmean(barriers):.4f}" if barriers else ""])
    if not any(line[-1] for line in cells[1:]):
        cells = [line[:-1] for line in cells]
    return cells
