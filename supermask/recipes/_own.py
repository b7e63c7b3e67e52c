"""Recipes in files of a user's own: one config, as `tune` writes it and `--recipe FILE.toml` takes it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supermask.config import Config
from supermask.errors import BadFileError, UsageError, one_line, require
from supermask.storage.atomic import write_atomic

SUFFIX = ".toml"
_LEFT_OUT = ("seed", "seeds", "devices", "micro_batch", "weights_sha256", "within_sha256", "ticket_sha256")
"""Fields that say how a config is run, or that are filled in from others."""


def read(path: Path, experiment: str, kind: type[Config]) -> dict[str, Any]:
    """The config in a file, for the command of this name, whose configs are of this class.

    Raises:
        UsageError: it is a recipe of another command.
        BadFileError: it cannot be read, or does not hold a config.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadFileError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # both invalid TOML and invalid UTF-8
        raise BadFileError(f"{path} is not a TOML file: {one_line(error)}") from error
    if (other := found.get("experiment", experiment)) != experiment:
        raise UsageError(f"{path} is a recipe of `supermask {other}`: use it there")
    try:
        for key in found:
            require("key", key, ("experiment", "config"))
        if not isinstance(config := found.get("config"), dict):
            raise UsageError("it has no table [config]")
        kind.from_dict(config)
    except (UsageError, TypeError) as error:
        raise BadFileError(f"{path} is not a recipe of `supermask {experiment}`: {one_line(error)}") from error
    return config


def write(path: Path, experiment: str, values: Mapping[str, Any], comment: str) -> None:
    """Write a config, without its seed and what it takes from the machine, into a file that `read` takes."""
    kept = {key: value for key, value in values.items() if key not in _LEFT_OUT and value is not None}
    lines = [f"# {comment}", f"experiment = {_toml(experiment)}", "", "[config]"]
    write_atomic(path, "\n".join([*lines, *(f"{key} = {_toml(value)}" for key, value in kept.items()), ""]).encode())


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = [f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items() if item is not None]
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, str | bool):
        return json.dumps(value)
    return repr(value)
