"""supermask reproduce: reruns a published table and prints our results beside it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from supermask import registry
from supermask.cli import _options as opt
from supermask.cli._help import GroupedCommand
from supermask.cli._progress import reporter
from supermask.config import Config
from supermask.config.lottery import LotteryConfig
from supermask.errors import InterruptionError, StoppedError, UsageError, require
from supermask.experiments.options import RunOptions
from supermask.recipes import PublishedRecipe
from supermask.resolve import resolve
from supermask.runtime.devices import choose_device
from supermask.runtime.stopping import Stopping

EPILOG = """\b
Examples:
  supermask reproduce koster2022-readme --budget 0.02
  supermask reproduce zhou2019-table1 --only fc --budget 0.25
  supermask reproduce ramanujan2020-cifar10 --seeds 5 --precision bf16 --json"""
QUANTITIES = {"test_accuracy": "test accuracy", "density": "density", "bits_per_parameter": "bits/parameter"}


@click.command(cls=GroupedCommand, epilog=EPILOG)
@click.argument("table")
@opt.option(
    "--budget",
    type=float,
    default=1.0,
    show_default=True,
    help="Fraction of the published epochs to run.",
    group="training",
)
@opt.option(
    "--only",
    multiple=True,
    metavar="WORDS",
    help="Only the recipes with WORDS in their names; several times: with any of them.",
)
@opt.option("--seeds", type=int, default=3, show_default=True, help="Number of seeds for each cell of the table.")
@partial(opt.config_options, names=("seed", "precision", "conv", "devices", "micro_batch"))
@opt.option("--runs-dir", type=opt.PATH, default=Path("runs"), show_default=True, help="Folder for run folders.")
@opt.data_dir_option
@opt.device_option
@opt.option("--force", is_flag=True, help="Search again even where a run folder holds a result.")
@opt.quiet_option
@opt.json_option
def command(
    table: str,
    budget: float,
    only: tuple[str, ...],
    runs_dir: Path,
    data_dir: Path | None,
    device: str,
    force: bool,
    quiet: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Run the recipes of TABLE and print test accuracies beside the published ones.

    Prints the mean and standard deviation over seeds, for the mask of the last epoch. Run folders are those of
    `search --recipe`. Finished searches are not repeated, so the same call continues where it was stopped.
    """
    cells = _cells(table, only)
    if not 0 < budget <= 1:
        raise UsageError(f"budget is {budget}; it must be above 0 and at most 1")
    configs = [_cut(cell, cell.config_class.from_dict({**cell.config, **values}), budget) for cell in cells]
    choose_device(device, values["devices"])
    from supermask.experiments.published import measure  # imports JAX

    rows: list[dict[str, Any]] = []
    try:
        for cell, config in zip(cells, configs, strict=True):
            if not quiet:
                click.echo(f"{cell.name}: cell {len(rows) + 1} of {len(cells)}", err=True)
            with Stopping() as stopping:
                options = RunOptions(
                    root=runs_dir,
                    data_dir=data_dir,
                    device=device,
                    force=force and config not in configs[: len(rows)],  # cells may share a run
                    callbacks=(reporter(quiet),),
                )
                found = measure(cell, resolve(config), options, stopping)
            rows.append({"table": table, "recipe": cell.name, "budget": budget, **found, "published": _published(cell)})
            if as_json:
                opt.print_json(rows[-1])
    except (KeyboardInterrupt, InterruptionError, StoppedError) as error:
        kind = StoppedError if isinstance(error, StoppedError) else InterruptionError
        done = f"{len(rows)} of {len(cells)} cells are finished"
        raise kind(f"interrupted; {done}, the same call does the rest") from None
    finally:
        if rows and not as_json:
            _print(table, rows)


def _cells(table: str, only: tuple[str, ...]) -> list[PublishedRecipe]:
    """Return the recipes of a table, or those whose names hold any of the words."""
    cells: list[PublishedRecipe] = [registry.load("recipes", name) for name in registry.names("recipes")]
    tables = dict.fromkeys(cell.table for cell in cells)
    require("table", table, tables, " (`supermask list recipes -v` describes their cells)")
    cells = [cell for cell in cells if cell.table == table]
    for words in only:
        if not any(words in cell.name for cell in cells):
            names = ", ".join(cell.name for cell in cells)
            raise UsageError(f"no recipe of {table} has {words!r} in its name; they are {names}")
    return [cell for cell in cells if not only or any(words in cell.name for words in only)]


def _epochs(cell: PublishedRecipe, budget: float) -> int:
    """Return a fraction of the published epochs, rounded to whole rounds if the recipe has rounds."""
    unit = cell.epochs_per_round
    return max(1, round(budget * cell.config["epochs"] / unit)) * unit


def _cut(cell: PublishedRecipe, config: Config, budget: float) -> Config:
    """Return the config for a fraction of the published epochs; a lottery goes back to the same fraction of them, and
    the learning rate rises over a tenth of them at most."""
    if isinstance(config, LotteryConfig):
        config = config.replace(rewind_step=round(budget * config.rewind_step))
    epochs = _epochs(cell, budget)
    if config.warmup and epochs < cell.config["epochs"]:
        config = config.replace(warmup=min(config.warmup, epochs / 10))
    return config.replace(epochs=epochs)


def _published(cell: PublishedRecipe) -> dict[str, Any]:
    return {"paper": cell.paper, "epochs": cell.config["epochs"], **cell.published}


def _print(table: str, rows: list[dict[str, Any]]) -> None:
    from supermask.cli import _tables

    shown = [key for key in QUANTITIES if key == "test_accuracy" or any(key in row["published"] for row in rows)]
    head = ["recipe", "epochs", "published"]
    for key in shown:
        head += [QUANTITIES[key], "published"]
    with_floor = any("floor" in row for row in rows)
    if with_floor:
        head.insert(4, "floor")
    cells = [[*head, "source"]]
    for row in rows:
        line = [row["recipe"], str(row["epochs"]), str(row["published"]["epochs"])]
        for key in shown:
            if key not in row:
                line += ["", ""]
                continue
            std, published = row[f"{key}_std"], row["published"].get(key)
            line.append(f"{row[key]:.4f}" + ("" if std is None else f" +- {std:.4f}"))
            finding = row["published"].get("finding", "") if key == "test_accuracy" else ""
            if with_floor and key == "test_accuracy":
                line.append(f"{max(row['floor'].values()):.4f}" if row.get("floor") else "")
            line.append(finding if published is None else f"{published:g}")
        cells.append([*line, row["published"]["source"]])
    papers = "; ".join(dict.fromkeys(row["published"]["paper"] for row in rows))
    click.echo(f"{table} ({papers}), budget {rows[0]['budget']:g}, seeds {', '.join(map(str, rows[0]['seeds']))}")
    click.echo(_tables.table(cells))
