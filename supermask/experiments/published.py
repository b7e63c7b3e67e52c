"""Runs the experiment of a published result, and measures what was published of it."""

from __future__ import annotations

import hashlib
import json
import statistics
from contextlib import suppress
from pathlib import Path
from typing import Any

from supermask.config import Config, SearchConfig
from supermask.config.forget import ForgetConfig
from supermask.config.lottery import LotteryConfig
from supermask.errors import SupermaskError, UsageError
from supermask.experiments.comparison import CriteriaSweep
from supermask.experiments.criteria import compare_criteria
from supermask.experiments.evaluate import evaluate
from supermask.experiments.forget import Forget
from supermask.experiments.lottery import Lottery
from supermask.experiments.options import Rows, RunOptions, RunResult
from supermask.experiments.run import Experiment, run_experiment
from supermask.experiments.search import Search
from supermask.experiments.train import Train
from supermask.recipes import PublishedRecipe
from supermask.runs.results import load_result
from supermask.runtime.stopping import Stopping
from supermask.storage.atomic import write_atomic
from supermask.ticket import Ticket
from supermask.weights.trained import TrainedWeights


def measure(cell: PublishedRecipe, config: Config, options: RunOptions, stopping: Stopping) -> dict[str, Any]:
    """Return our results for one published result.

    Args:
        config: that of the recipe, resolved, perhaps with fewer epochs and other seeds.

    Raises:
        InterruptionError, StoppedError: a signal arrived; the run folder holds what the experiment resumes from.
        SupermaskError: the experiment failed; the message starts with the recipe's name.
    """
    kinds: dict[str, type[Experiment]] = {
        "search": Search,
        "train": Train,
        "lottery": Lottery,
        "forget": Forget,
        "criteria": Train,
    }
    try:
        result = run_experiment(kinds[cell.experiment], config, options, stopping)
        if result.stopped or stopping.stop_requested():
            raise result.stopped or stopping.error("its run is done")
        stopping.nothing_to_lose = True
        if cell.experiment == "criteria":
            return _of_criteria(cell, config, result, options)
        if isinstance(config, LotteryConfig | ForgetConfig):
            return _of_chain(cell, config, result)
        return _of_seeds(config, result, options)
    except SupermaskError as error:
        raise type(error)(f"{cell.name}: {error}") from error


def spread(key: str, values: list[float]) -> dict[str, float | None]:
    """Return mean and sample standard deviation; the latter is None for a single value."""
    return {key: statistics.fmean(values), f"{key}_std": statistics.stdev(values) if len(values) > 1 else None}


def _of_seeds(config: Config, result: RunResult, options: RunOptions) -> dict[str, Any]:
    """The results of a search, or of a training, one per seed."""
    kind = "ticket" if isinstance(config, SearchConfig) else "weights"
    paths = [Path(row[kind]) for row in result.rows]
    tickets = [load_result(path) for path in paths]
    tested = [_tested(ticket, path, options) for ticket, path in zip(tickets, paths, strict=True)]
    accuracies = [accuracy for accuracy, _ in tested]
    keys = ("arch", "dataset", "method", "epochs")
    row: dict[str, Any] = {key: getattr(config, key) for key in keys if hasattr(config, key)}
    row["seeds"] = [ticket.config.seed for ticket in tickets]
    row["test_accuracies"] = accuracies
    row |= spread("test_accuracy", accuracies)
    row |= spread("density", [ticket.density for ticket in tickets])
    if bits := [ticket.bits_per_parameter for ticket in tickets if isinstance(ticket, Ticket)]:
        row |= spread("bits_per_parameter", bits)
    if floor := tested[0][1]:
        row["floor"] = floor
    return row | {"run": str(result.path), "tickets" if bits else "weights": [str(path) for path in paths]}


def _of_chain(cell: PublishedRecipe, config: LotteryConfig | ForgetConfig, result: RunResult) -> dict[str, Any]:
    """The results of a round, or of a generation."""
    if isinstance(config, ForgetConfig):
        own, branch = {"op": config.op}, config.op
    else:
        own, branch = {"criterion": config.criterion}, "ticket"
    at = {"branch": branch, **cell.at}
    rows = [row for row in result.rows if all(row[key] == value for key, value in at.items())]
    if not rows:
        there = ", ".join(f"{key} {value}" for key, value in at.items())
        raise UsageError(f"the run has no result at {there}")
    head = {"arch": config.arch, "dataset": config.dataset, **own, "epochs": config.epochs}
    files = {"run": str(result.path), "weights": [row["weights"] for row in rows]}
    return head | at | _of_rows(rows) | files


def _of_criteria(cell: PublishedRecipe, config: Config, result: RunResult, options: RunOptions) -> dict[str, Any]:
    criterion, values = cell.at["criterion"], cell.at["values"]
    sweep = CriteriaSweep(criteria=[criterion], values=[values])
    found = compare_criteria(result.path, sweep, data_dir=options.data_dir, note=options.note)
    [best] = found.best()
    rows = [row for row in found.rows if row["round"] == best["round"]]
    head = {"arch": config.arch, "dataset": config.dataset, **cell.at, "epochs": config.epochs, "round": best["round"]}
    return head | _of_rows(rows) | {"run": str(result.path)}


def _of_rows(rows: Rows) -> dict[str, Any]:
    accuracies = [row["test_accuracy"] for row in rows]
    found: dict[str, Any] = {"seeds": [row["seed"] for row in rows], "test_accuracies": accuracies}
    return found | spread("test_accuracy", accuracies) | spread("density", [row["density"] for row in rows])


def _tested(ticket: Ticket | TrainedWeights, path: Path, options: RunOptions) -> tuple[float, dict[str, float]]:
    """Return (accuracy, floors) on the test split; cached in the run folder, keyed by the hash of the ticket's file."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    kept = path.with_name(f".{path.stem}-test.json")
    try:
        known = json.loads(kept.read_bytes())
        if known["ticket"] == digest:
            return float(known["accuracy"]), dict(known.get("floor", {}))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no cached accuracy yet, or not a file of ours: it is written below
    found = evaluate(ticket, data_dir=options.data_dir)
    if found.reproduced:
        known = {"ticket": digest, "accuracy": found.accuracy, **({"floor": found.floor} if found.floor else {})}
        with suppress(SupermaskError):  # a folder without write permission is no reason to fail
            write_atomic(kept, json.dumps(known).encode())
    else:
        options.note(f"warning: {path}: the validation accuracy recorded by its search is not reproduced here")
    return found.accuracy, found.floor
