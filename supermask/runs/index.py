"""Existing run folders: their names, the configs they belong to, their results."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from supermask.config import Config, SearchConfig
from supermask.config.earlier import completed
from supermask.config.files import without_places
from supermask.config.kinds import config_class
from supermask.errors import BadFileError, RunFolderError, UsageError
from supermask.runs.content import combined
from supermask.runs.results import load_result, moved, read_object
from supermask.storage.atomic import cut, read_bytes

NUMBERS = ("val_accuracy", "train_accuracy", "density", "epochs")
"""The numbers that the result of each seed must have."""

LONGEST = 255 - len("..unfinished.owner-removing")
"""The longest name of a run folder, in bytes: of the names made from it, file systems take 255."""


def default_path(root: Path, config: Config, defaults: Config, content: Mapping[str, str] | None = None) -> Path:
    """ROOT/ARCH-DATASET-METHOD-dDENSITY-sSEED-HASH8, or ROOT/ARCH-DATASET-train-sSEED-HASH8.

    Both configs are resolved; `defaults` is the same arch, dataset and method with nothing else set. `content` tells
    runs of the same config apart, see `runs.content`; without it, as with all that is built in, the config decides.
    """
    digest = config.digest(defaults)
    parts = [
        config.arch,
        config.dataset,
        config.label,
        *([f"d{config.density:g}"] if isinstance(config, SearchConfig) else []),
        f"s{config.seed}",
        combined(dict(content) | {"config": digest})[:8] if content else digest,
    ]
    plain = [re.sub(r"[^\w.+]+", "_" if part.startswith(("npz:", "folder:")) else "-", part)[-60:] for part in parts]
    if len(os.fsencode("-".join(plain))) > LONGEST:
        plain = [cut(part, 36) for part in plain]  # the hash, which stays whole, knows what is cut off
    return root / "-".join(plain)


def read_config(path: Path) -> dict[str, Any]:
    """Read the values of a config.json.

    Raises:
        BadFileError: the file is missing or not a JSON object.
    """
    return read_object(path, "a config.json of a run")


def finished(path: Path, config: Config) -> list[dict[str, Any]] | None:
    """Read the results of a finished run of this config; None if there is no run, or it was interrupted.

    Raises:
        RunFolderError: the folder belongs to another config, or is not a run folder.
        BadFileError: something in the folder is missing or damaged.
    """
    if is_free(path):
        return None
    check_owner(path, config)
    try:
        result = json.loads(read_bytes(path / "result.json", "the result of a run"))
        rows = [moved(row, path) for row in result["results"]]
        if not result["complete"]:
            return None
        for row in rows:
            kind = "ticket" if "ticket" in row else "weights"
            load_result(row[kind])
            if not all(type(row.get(key)) in (int, float) for key in (*NUMBERS, f"{kind}_bytes")):
                raise ValueError("a number is missing")
        if len(rows) != config.num_results:
            raise ValueError(f"{len(rows)} results of {config.num_results}")
        return rows
    except BadFileError as error:
        raise BadFileError(f"{error}; --force starts over") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadFileError(f"{path}/result.json is damaged; --force starts over") from error


def is_open(path: Path) -> bool:
    """Whether a run may still fill this folder: nothing is there, or the folder's own result says it was stopped.

    Raises:
        UsageError: the path cannot be read.
    """
    if is_free(path):
        return True
    try:
        return json.loads((path / "result.json").read_bytes())["complete"] is False
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False  # `finished` reports what is wrong with it


def devices_of(path: Path) -> int | None:
    """Return the number of devices that a run there began with; its ticket depends on it. None if it is unknown."""
    for folder in (path, hidden_path(path)):
        with suppress(BadFileError):
            found = read_config(folder / "config.json").get("devices")
            return found if type(found) is int else None
    return None


def hidden_path(path: Path) -> Path:
    """Return the hidden path under which a run folder is filled.

    Raises:
        UsageError: the path cannot be a run folder, such as `.` or `/`.
    """
    if not path.name or path.name == "..":
        raise UsageError(f"{path} cannot be a run folder; give --out the name of a new one")
    return path.with_name(f".{path.name}.unfinished")


def is_free(path: Path) -> bool:
    """Whether a new run may use this name: nothing is there, or an empty folder."""
    try:
        return not path.exists() or (path.is_dir() and not any(path.iterdir()))
    except OSError as error:
        raise UsageError(f"cannot use {path} as a run folder: {error.strerror}") from error


def check_owner(path: Path, config: Config) -> None:
    """Check that the folder is a run folder of this config.

    Raises:
        RunFolderError: it is not; the message lists the keys that differ.
        BadFileError: its config.json is damaged.
    """
    if not (path / "config.json").is_file():
        raise RunFolderError(f"{path} exists and is not a run folder; give --out another name")
    try:
        there = read_config(path / "config.json")
    except BadFileError as error:
        raise BadFileError(f"{error}; --force starts over") from error
    if config_class(there) is not type(config):
        what = config_class(there).experiment
        raise RunFolderError(f"{path} is the run of a {what}; give --out another name")
    try:
        mine, other = config.to_dict(), type(config).from_dict(completed(there)).to_dict()
    except (UsageError, TypeError) as error:
        raise RunFolderError(f"{path} belongs to a config that this version cannot read: {error}") from error
    mine, other = without_places(mine), without_places(other)
    keys = [key for key in mine | other if mine.get(key) != other.get(key)]
    differing = [f"{key} {other.get(key)!r} there, {mine.get(key)!r} here" for key in keys]
    if differing:
        raise RunFolderError(
            f"{path} belongs to another config ({'; '.join(differing)}); choose another --out, or --force"
        )
