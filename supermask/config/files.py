"""The files that a config names. What is in them counts, not where they lie: each has its SHA-256 beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supermask.errors import BadFileError, UsageError

FILES = {
    "ticket": "a ticket to train under",
    "weights": "weights to freeze: safetensors, npz, a ticket or a run folder",
    "within": "a ticket to search within",
}
"""Field of a config -> what the file should be."""

OPTIONAL = (
    *("weights", "weights_sha256", "within", "within_sha256", "warmup", "clip"),
    *("clip_each", "label_smoothing", "cycles", "order", "freeze", "probe_every"),
)
"""Fields that are not written while they are None, so that files of other runs are the same as before."""


def located(config: Any) -> dict[str, str]:
    """Return where the files of a config are and their hashes; of one that is gone, as of a finished run, nothing new.

    Raises:
        BadFileError: a file is missing or cannot be read.
        UsageError: a run folder holds several results.
    """
    found: dict[str, str] = {}
    for field, what in FILES.items():
        if (value := getattr(config, field, None)) is None:
            continue
        path = Path(value).absolute()
        if path.exists() or not getattr(config, f"{field}_sha256"):
            content = result_file(path) if field == "weights" else path
            found |= {field: str(path), f"{field}_sha256": hash_of(content, what)}
    return found


def hash_of(path: Path, what: str = FILES["ticket"]) -> str:
    """Return the SHA-256 of a file; `what` tells the error message what it should be.

    Raises:
        BadFileError: it is missing or cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BadFileError(f"cannot read {path}: {error.strerror}; it should be {what}") from error


def result_file(path: Path, what: str = FILES["weights"]) -> Path:
    """Return the one result in a run folder; any other path is returned as it is.

    `what` tells the error message what the path should be.

    Raises:
        BadFileError: the folder holds no result, or that of a run that was stopped.
        UsageError: it holds several.
    """
    if not path.is_dir():
        return path
    found = sorted([*path.glob("weights-s*.safetensors"), *path.glob("ticket-s*.safetensors")])
    if not found:
        raise BadFileError(f"{path} holds no result of `supermask train` or `search`; it should be {what}")
    if len(found) > 1:
        raise UsageError(f"{path} holds the results of {len(found)} seeds: give one of them, such as {found[0]}")
    try:
        complete = json.loads((path / "result.json").read_bytes())["complete"] is True
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        complete = False
    if not complete:
        raise BadFileError(f"{path} is not a finished run: finish it with --resume, or give {found[0]}")
    return found[0]


def without_places(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of the values of a config where its files lie, if the hashes of their contents are known."""
    return {key: value for key, value in values.items() if not (key in FILES and values.get(f"{key}_sha256"))}


def names_alone(config: Any) -> dict[str, str]:
    """Return the names of a config's files without their folders, as a result records them."""
    values = {field: getattr(config, field, None) for field in FILES}
    return {field: Path(value).name for field, value in values.items() if value}
