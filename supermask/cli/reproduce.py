"""supermask reproduce: reruns a published table and prints our results beside it."""

from __future__ import annotations

import hashlib
import json
import statistics
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supermask import registry
from supermask.cli import _options as opt
from supermask.cli._help import GroupedCommand
from supermask.cli._progress import reporter
from supermask.config import SearchConfig
from supermask.errors import InterruptionError, StoppedError, SupermaskError, UsageError, require
from supermask.experiments.options import RunOptions
from supermask.recipes import PublishedRecipe
from supermask.resolve import resolve
from supermask.runtime.devices import choose_device
from supermask.runtime.stopping import Stopping

if TYPE_CHECKING:
    from supermask.experiments.run import Experiment

EPILOG = """\b
Examples:
  supermask reproduce koster2022-readme --budget 0.02
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
    cells = _cells(table)
    if not 0 < budget <= 1:
        raise UsageError(f"budget is {budget}; it must be above 0 and at most 1")
    configs = [SearchConfig.from_dict({**cell.config, **values}) for cell in cells]
    configs = [config.replace(epochs=_epochs(cell, budget)) for cell, config in zip(cells, configs, strict=True)]
    choose_device(device, values["devices"])
    rows: list[dict[str, Any]] = []
    try:
        for cell, config in zip(cells, configs, strict=True):
            if not quiet:
                click.echo(f"{cell.name}: cell {len(rows) + 1} of {len(cells)}", err=True)
            with Stopping() as stopping:
                options = RunOptions(
                    root=runs_dir, data_dir=data_dir, device=device, force=force, callbacks=(reporter(quiet),)
                )
                found = _run(cell.name, resolve(config), options, stopping)
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


def _cells(table: str) -> list[PublishedRecipe]:
    """Return the recipes of a table."""
    cells: list[PublishedRecipe] = [registry.load("recipes", name) for name in registry.names("recipes")]
    tables = dict.fromkeys(cell.table for cell in cells)
    require("table", table, tables, " (`supermask list recipes -v` describes their cells)")
    return [cell for cell in cells if cell.table == table]


def _epochs(cell: PublishedRecipe, budget: float) -> int:
    """Return a fraction of the published epochs, rounded to whole rounds if the recipe has rounds."""
    unit = cell.epochs_per_round
    return max(1, round(budget * cell.config["epochs"] / unit)) * unit


def _published(cell: PublishedRecipe) -> dict[str, Any]:
    return {"paper": cell.paper, "epochs": cell.config["epochs"], **cell.published}


def _run(name: str, config: SearchConfig, options: RunOptions, stopping: Stopping) -> dict[str, Any]:
    """Return our results for one cell.

    Raises:
        InterruptionError, StoppedError: a signal arrived; the run folder holds what the search resumes from.
        SupermaskError: the search or the evaluation failed; the message starts with the cell's name.
    """
    from supermask.experiments.run import run_experiment

    try:
        result = run_experiment(_search, config, options, stopping)
        if result.stopped or stopping.stop_requested():
            raise result.stopped or stopping.error("its search is done")
        stopping.nothing_to_lose = True
        paths = [Path(row["ticket"]) for row in result.rows]
        return _measured(config, result.path, paths, options.data_dir)
    except SupermaskError as error:
        raise type(error)(f"{name}: {error}") from error


def _search() -> Experiment:
    from supermask.experiments.search import Search

    return Search()


def _measured(config: SearchConfig, run: Path, paths: list[Path], data_dir: Path | None) -> dict[str, Any]:
    from supermask.ticket import Ticket

    tickets = [Ticket.load(path) for path in paths]
    accuracies = [_test_accuracy(ticket, path, data_dir) for ticket, path in zip(tickets, paths, strict=True)]
    row: dict[str, Any] = {key: getattr(config, key) for key in ("arch", "dataset", "method", "epochs")}
    row["seeds"] = [ticket.config.seed for ticket in tickets]
    row["test_accuracies"] = accuracies
    row |= _spread("test_accuracy", accuracies)
    row |= _spread("density", [ticket.density for ticket in tickets])
    row |= _spread("bits_per_parameter", [ticket.bits_per_parameter for ticket in tickets])
    return row | {"run": str(run), "tickets": [str(path) for path in paths]}


def _spread(key: str, values: list[float]) -> dict[str, float | None]:
    """Return mean and sample standard deviation; the latter is None for a single value."""
    return {key: statistics.fmean(values), f"{key}_std": statistics.stdev(values) if len(values) > 1 else None}


def _test_accuracy(ticket: Any, path: Path, data_dir: Path | None) -> float:
    """Evaluate a ticket on the test split; cache the accuracy in the run folder, keyed by the ticket's hash."""
    from supermask.experiments.evaluate import evaluate
    from supermask.storage.atomic import write_atomic

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    kept = path.with_name(f".{path.stem}-test.json")
    try:
        known = json.loads(kept.read_bytes())
        if known["ticket"] == digest:
            return float(known["accuracy"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no cached accuracy yet, or not a file of ours: it is written below
    found = evaluate(ticket, data_dir=data_dir)
    if found.reproduced:
        with suppress(SupermaskError):  # a folder without write permission is no reason to fail
            write_atomic(kept, json.dumps({"ticket": digest, "accuracy": found.accuracy}).encode())
    else:
        click.echo(f"warning: {path}: the validation accuracy recorded by its search is not reproduced here", err=True)
    return found.accuracy


def _print(table: str, rows: list[dict[str, Any]]) -> None:
    from supermask.cli import _tables

    shown = [key for key in QUANTITIES if any(key in row["published"] for row in rows)]
    head = ["recipe", "epochs", "published"]
    for key in shown:
        head += [QUANTITIES[key], "published"]
    cells = [[*head, "source"]]
    for row in rows:
        line = [row["recipe"], str(row["epochs"]), str(row["published"]["epochs"])]
        for key in shown:
            std, published = row[f"{key}_std"], row["published"].get(key)
            line.append(f"{row[key]:.4f}" + ("" if std is None else f" +- {std:.4f}"))
            line.append("" if published is None else f"{published:g}")
        cells.append([*line, row["published"]["source"]])
    papers = "; ".join(dict.fromkeys(row["published"]["paper"] for row in rows))
    click.echo(f"{table} ({papers}), budget {rows[0]['budget']:g}, seeds {', '.join(map(str, rows[0]['seeds']))}")
    click.echo(_tables.table(cells))
