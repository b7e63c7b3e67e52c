"""What the fields of a config may hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from supermask.errors import UsageError, require

_KINDS = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}
_TINY = 5e-324  # the smallest float above zero: an open lower bound
_RANGES = (
    ("density", _TINY, 1, "above 0 and at most 1"),
    ("width", _TINY, 1e6, "above 0 and at most 1e6"),
    ("image_size", 1, 4096, "from 1 to 4096"),
    ("validation", 0, 1 - 1e-9, "at least 0 and below 1"),
    ("epochs", 0, 10**9, "from 0 to 1e9"),
    ("batch_size", 1, 10**9, "from 1 to 1e9"),
    ("devices", 1, 4096, "from 1 to 4096"),
    ("micro_batch", 1, 10**9, "from 1 to 1e9"),
    ("learning_rate", _TINY, 1e9, "above 0 and at most 1e9"),
    ("momentum", 0, 1 - 1e-9, "at least 0 and below 1"),
    ("weight_decay", 0, 1e9, "from 0 to 1e9"),
    ("clip", _TINY, 1e9, "above 0 and at most 1e9"),
    ("clip_each", _TINY, 1e9, "above 0 and at most 1e9"),
    ("label_smoothing", 0, 1 - 1e-9, "at least 0 and below 1"),
    ("cycles", 1, 10**6, "from 1 to 1e6"),
    ("warmup", 0, 1e9, "from 0 to 1e9"),
    ("seed", 0, 2**32 - 1, "from 0 to 4294967295"),
    ("seeds", 1, 10**6, "from 1 to 1e6"),
)


def check_fields(config: Any) -> None:
    """Check types, ranges and choices of all fields; an int for a float is converted.

    Raises:
        UsageError: a value is of another type or out of range, or a word is not among the choices.
    """
    for item in fields(config):
        _check_type(config, item.name, getattr(item.type, "__name__", str(item.type)))
    for name, low, high, text in _RANGES:
        value = getattr(config, name, None)
        if value is None:
            continue
        if not (math.isfinite(value) and low <= value <= high):
            raise UsageError(f"{name} is {value}; it must be {text}")
    if config.seed + config.seeds > 2**32:
        last = config.seed + config.seeds - 1
        raise UsageError(f"seeds run from {config.seed} to {last}; the highest seed is {2**32 - 1}")
    for item in fields(config):
        choices, value = item.metadata.get("choices"), getattr(config, item.name)
        if choices and value is not None:
            require(item.name, value, choices)


def check_weights(config: Any) -> None:
    """Check that nothing says how to draw weights that are given.

    Raises:
        UsageError: something does.
    """
    if config.weights is None:
        return
    if config.init is not None:
        raise UsageError(f"weights are given, so init {config.init} has no effect: leave out --init or --weights")
    if config.scale_by_density:
        raise UsageError("--scale-by-density is about random weights, and weights are given: leave it out")


def _check_type(config: Any, name: str, annotation: str) -> None:
    """Check a field's type, since JSON and Python callers may pass anything; an int for a float is converted."""
    value = getattr(config, name)
    kind, *optional = annotation.split(" | ")
    if value is None and optional:
        return
    if kind == "float" and type(value) is int:
        object.__setattr__(config, name, float(value))
    elif kind.startswith("Mapping") and isinstance(value, Mapping):
        object.__setattr__(config, name, dict(value))
    elif type(value).__name__ != kind:
        raise UsageError(f"{name} is {value!r}; it must be {_KINDS.get(kind, 'an object of names and values')}")


def words_of(text: str | None) -> list[str]:
    """The comma-separated words of an option."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]
