"""Configs that earlier versions wrote: they lack options that methods have by now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from supermask import registry
from supermask.config.files import OPTIONAL
from supermask.config.kinds import config_class


def completed(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a config.json with all that they stand for.

    What a run does not write is None, whatever a recipe says. Options that a method did not have then are as they were
    meant. A config that a person wrote stays as it is: only a run writes all fields and lists all options.
    """
    kind = config_class(values)
    if kind().to_dict().keys() <= values.keys():
        values = {item.name: None for item in fields(kind) if item.name in OPTIONAL} | values
    options, added = values.get("options"), added_options(values.get("method"))
    if not added or not isinstance(options, dict) or not options.keys() >= _all(values["method"]) - added.keys():
        return values
    if any(values.get(key) is None for key in ("epochs", "optimizer", "learning_rate", "batch_size")):
        return values
    return values | {"options": {**added, **options}}


def added_options(method: Any) -> Mapping[str, Any]:
    """Options of a built-in method that earlier versions did not have -> the value that says what those did."""
    if not isinstance(method, str) or method not in registry.names("methods"):
        return {}
    found: Mapping[str, Any] = registry.describe("methods", method).constants.get("added", {})
    return found


def _all(method: str) -> set[str]:
    return set(registry.describe("methods", method).fields)
