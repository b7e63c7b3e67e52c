"""Reads what a run leaves behind: files of tickets and trained weights, metrics and results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from supermask.config import Config
from supermask.config.kinds import config_class
from supermask.errors import BadFileError, UsageError, one_line
from supermask.storage.atomic import read_bytes
from supermask.storage.container import is_sealed, unseal
from supermask.ticket import FORMAT, Ticket
from supermask.weights.trained import KIND, TrainedWeights


def load_result(path: str | Path, what: str = "a ticket or trained weights of supermask") -> Ticket | TrainedWeights:
    """Load a ticket or trained weights, whichever the file holds; `what` tells the error message what it should be.

    Raises:
        BadFileError: the file is missing, truncated, altered, of another kind or of a newer format.
    """
    path = Path(path)
    if path.is_dir() and (inside := sorted(path.glob("weights-s*.safetensors"))):
        raise BadFileError(f"{path} is a run folder; give one of its weights files, such as {inside[0]}")
    if path.is_dir() and list(path.glob("ticket-s*.safetensors")):
        return Ticket.load(path)  # which names one
    data = read_bytes(path, what)
    if not is_sealed(data):
        raise BadFileError(f"{path} was not written by supermask, or its header is damaged; it should be {what}")
    document, tensors = unseal(data, path, FORMAT)
    if (kind := document.get("kind")) == KIND:
        return TrainedWeights.unpack(document, tensors, path)
    if kind:
        raise BadFileError(f"{path} holds {kind}; it should be {what}")
    return Ticket.unpack(document, tensors, path)


@dataclass(frozen=True)
class Run:
    """The contents of a run folder. Reading it needs no JAX.

    Attributes:
        path: the folder.
        config: a resolved SearchConfig or TrainConfig.
        results: one row of result.json per seed.
        complete: whether the run finished; False if it was stopped.
    """

    path: Path
    config: Config
    results: list[dict[str, Any]]
    complete: bool

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Read a run folder that is finished or was stopped.

        Raises:
            BadFileError: something in the folder is missing or damaged.
        """
        path = Path(path)
        values = read_object(path / "config.json", "a config.json of a run")
        result = read_object(path / "result.json", "the result of a run")
        kind = config_class(values)
        try:
            return cls(
                path, kind.from_dict(values), [moved(row, path) for row in result["results"]], bool(result["complete"])
            )
        except (UsageError, KeyError, TypeError) as error:
            raise BadFileError(f"{path} is not a complete run folder: {one_line(error)}") from error

    @cached_property
    def content(self) -> dict[str, str]:
        """Fingerprints of the data and of the user's own code, see `runs.content`; {} in runs of earlier versions.

        Raises:
            BadFileError: their file is damaged.
        """
        from supermask.runs import content  # imports this module

        return content.read(self.path)

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """metrics.jsonl as one array per column: seed, epoch, loss, train_accuracy, val_accuracy, density, ...

        Raises:
            BadFileError: the file is missing or damaged.
        """
        file = self.path / "metrics.jsonl"
        try:
            rows = [json.loads(line) for line in read_bytes(file, "the metrics of a run").splitlines()]
            return {key: np.array([row[key] for row in rows]) for key in (rows[0] if rows else ())}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadFileError(f"{file} is damaged: {one_line(error)}") from error

    @cached_property
    def tickets(self) -> list[Ticket]:
        """The ticket of each seed, in order of the seeds; [] for weight training.

        Raises:
            BadFileError: a ticket is missing or damaged.
        """
        return [Ticket.load(path) for path in self._column("ticket")]

    @cached_property
    def weights(self) -> list[TrainedWeights]:
        """The trained weights of each seed, in order of the seeds; [] for a search.

        Raises:
            BadFileError: a file of weights is missing or damaged.
        """
        return [TrainedWeights.load(path) for path in self._column("weights")]

    def _column(self, key: str) -> list[str]:
        return [row[key] for row in self.results if key in row]


def moved(row: dict[str, Any], run: Path) -> dict[str, Any]:
    """Return the row with current paths, since the run folder may have been moved, and with the column `warnings`,
    which rows of earlier versions lack.

    Raises:
        TypeError: the warnings are not a list of strings.
    """
    warnings = {**row}.get("warnings", [])  # a TypeError if it is no row
    if not (isinstance(warnings, list) and all(isinstance(text, str) for text in warnings)):
        raise TypeError("its warnings are not a list of strings")
    paths: dict[str, Any] = {key: str(run / Path(row[key]).name) for key in ("ticket", "weights") if key in row}
    return {**row, **paths, "run": str(run), "warnings": warnings}


def finished_rows(run: Path) -> list[dict[str, Any]] | None:
    """The rows of result.json of a finished run; None if it was stopped.

    Raises:
        BadFileError: the file is missing or damaged.
    """
    path = run / "result.json"
    result = read_object(path, "the result of a run")
    try:
        return [moved(row, run) for row in result["results"]] if result["complete"] is True else None
    except (KeyError, TypeError) as error:
        raise BadFileError(f"{path} is damaged: {one_line(error)}") from error


def read_object(path: Path, what: str) -> dict[str, Any]:
    """Read the JSON object in a file; `what` tells the error message what should be there.

    Raises:
        BadFileError: the file is missing or not a JSON object.
    """
    try:
        values = json.loads(read_bytes(path, what))
    except (ValueError, RecursionError) as error:
        raise BadFileError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise BadFileError(f"{path} holds a {type(values).__name__}; it should hold an object of names and values")
    return values
