"""Many finished runs as one table: what differs between their configs, and means over seeds. Needs no JAX."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supermask.config.files import without_places
from supermask.errors import BadFileError, UsageError, require
from supermask.runs.index import read_config
from supermask.runs.results import finished_rows

WITHIN_A_RUN = ("round", "branch", "generation")
"""Columns that tell apart the results that one seed of a run has."""
METRICS = ("test_accuracy", "val_accuracy")
"""The columns to summarise, by preference."""
_NO_AXES = ("seed", "seeds", "devices")


@dataclass(frozen=True)
class Collection:
    """Finished runs.

    Attributes:
        axes: fields of the configs that differ between runs, options of arch and method among them.
        rows: one per result, with the axes and the columns of the result. Of the column `density`, an axis wins.
        left_out: paths of runs that are not finished, or whose files are damaged, and why.
    """

    axes: tuple[str, ...]
    rows: list[dict[str, Any]]
    left_out: dict[str, str]


def collect(folders: Iterable[Path]) -> Collection:
    """Read all runs in these folders, which may be run folders themselves.

    Raises:
        BadFileError: there is no finished run.
    """
    configs, results, left_out = [], [], {}
    for path in (run for folder in folders for run in _runs(folder)):
        try:
            found = finished_rows(path)
            if found is None:
                left_out[str(path)] = "stopped"
                continue
            configs.append(_flat(without_places(read_config(path / "config.json"))))
            results.append(found)
        except BadFileError as error:
            left_out[str(path)] = str(error)
    if not configs:
        raise BadFileError("there is no finished run in these folders")
    axes = _axes(configs)
    rows = [
        row | {axis: config.get(axis) for axis in axes}
        for config, found in zip(configs, results, strict=True)
        for row in found
    ]
    return Collection(axes, rows, left_out)


def summarise(found: Collection, metric: str | None = None) -> tuple[str, list[dict[str, Any]]]:
    """Return (column, one row per combination of axes: `n`, and the mean, `std` and `ci95` of the column over seeds).

    `std` has n - 1 in its denominator. `ci95` is the half width of the interval that Student's t distribution gives
    the mean; it is None, like `std`, for a single seed.

    Raises:
        UsageError: no result has this column of numbers.
    """
    numbers = sorted({key for row in found.rows for key, value in row.items() if _is_number(value)} - {"seed"})
    metric = metric or next(name for name in (*METRICS, *numbers) if name in numbers)
    require("metric", metric, numbers)
    keys = (*found.axes, *(key for key in WITHIN_A_RUN if any(key in row for row in found.rows)))
    groups: dict[str, tuple[dict[str, Any], list[float]]] = {}
    for row in found.rows:
        place = {key: row.get(key) for key in keys}
        if _is_number(row.get(metric)):
            groups.setdefault(json.dumps(place), (place, []))[1].append(float(row[metric]))
    return metric, [place | _statistics(values) for place, values in groups.values()]


def _statistics(values: Sequence[float]) -> dict[str, Any]:
    count, mean = len(values), statistics.fmean(values)
    if count == 1:
        return {"n": 1, "mean": mean, "std": None, "ci95": None}
    from scipy.special import stdtrit

    std = statistics.stdev(values)
    return {"n": count, "mean": mean, "std": std, "ci95": float(stdtrit(count - 1, 0.975)) * std / math.sqrt(count)}


def _runs(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; give a folder of runs")
    if (folder / "result.json").is_file():
        yield folder
        return
    for path in sorted(folder.iterdir()):
        if (path / "result.json").is_file() and not path.name.startswith("."):
            yield path


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """The config with each option of arch and method under its own name."""
    nested = {"options": "-o", "arch_options": "-a"}
    found = {key: value for key, value in config.items() if key not in nested}
    for key, short in nested.items():
        found |= {f"{short} {name}": value for name, value in (config.get(key) or {}).items()}
    return found


def _axes(configs: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    names = dict.fromkeys(key for config in configs for key in config if key not in _NO_AXES)
    first = configs[0]
    return tuple(name for name in names if any(config.get(name) != first.get(name) for config in configs))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
