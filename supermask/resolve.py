"""What a config leaves open: a method's recipe and options, a dataset's epochs.

What is built in is read as text, see `registry`, so that the name of a search's run folder is known without JAX.
"""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Union

from supermask import registry
from supermask.config import SearchConfig
from supermask.errors import UsageError, require
from supermask.types import Method, Recipe

EPOCHS = 30
AUGMENT = "none"


@dataclass(frozen=True)
class Facts:
    """What a method's class says of itself; `options` has the type and the default of each, or MISSING."""

    options: Mapping[str, tuple[Any, Any]]
    recipe: Recipe
    learned: bool
    keeps_density: bool


def filled(config: SearchConfig) -> SearchConfig:
    """The config with every None replaced that the method's recipe or the dataset has a value for.

    None stay `devices`, which the machine decides, and `micro_batch` and `image_size`, where it has a meaning. All
    options of the method are in the result. A method that is not trained has 0 epochs, whatever was asked.

    Raises:
        UsageError: an unknown name, an option that the method does not have, or one of another type.
    """
    registry.check_name("archs", config.arch)
    registry.check_name("datasets", config.dataset)
    dataset, method = _facts_of_dataset(config.dataset), facts_of(config.method)
    found = asdict(method.recipe)
    found["epochs"] = dataset.get("EPOCHS", EPOCHS)
    found["augment"] = dataset.get("AUGMENT", AUGMENT)
    changes = {key: value for key, value in found.items() if getattr(config, key) is None}
    if not method.learned:
        changes["epochs"] = 0
    return config.replace(options=_options(config, method.options), **changes)


def facts_of(name: str) -> Facts:
    """Of a method by its name.

    Raises:
        UsageError: there is none of that name, or it is no `Method`.
    """
    registry.check_name("methods", name)
    if not registry.is_own("methods", name):
        entry = registry.describe("methods", name)
        return Facts(
            options={key: (type(value), value) for key, value in entry.fields.items()},
            recipe=entry.constants.get("recipe", Method.recipe),
            learned=entry.constants.get("learned", Method.learned),
            keeps_density=entry.constants.get("keeps_density", Method.keeps_density),
        )
    kind = _method_class(name)
    hints = typing.get_type_hints(kind)
    options = {
        item.name: (hints[item.name], item.default if item.default_factory is MISSING else item.default_factory())
        for item in fields(kind)
        if item.init and item.name != "density"
    }
    return Facts(options, kind.recipe, kind.learned, kind.keeps_density)


def make_method(config: SearchConfig) -> Method:
    """The method with its density and options; JAX comes with it.

    Raises:
        UsageError: an option that the method does not have, or of the wrong type or out of range.
    """
    options = _options(config, facts_of(config.method).options)
    return _method_class(config.method)(density=config.density, **options)


def _method_class(name: str) -> type[Method]:
    kind = registry.load("methods", name)
    if not (inspect.isclass(kind) and issubclass(kind, Method)):
        raise UsageError(f"{name} is no subclass of supermask.Method")
    return kind


def _facts_of_dataset(name: str) -> Mapping[str, Any]:
    if not registry.is_own("datasets", name):
        return registry.describe("datasets", name).constants
    own = registry.load("datasets", name)
    return {str(key): getattr(own, key) for key in ("EPOCHS", "AUGMENT") if hasattr(own, key)}


def _options(config: SearchConfig, known: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    for key in config.options:
        require(f"option of {config.method}", key, known)
    found = {
        key: _as_type(f"option {key}", config.options[key], kind) if key in config.options else default
        for key, (kind, default) in known.items()
    }
    for key, value in found.items():
        if value is MISSING:
            raise UsageError(f"{config.method} needs the option {key}: give -o {key}=VALUE")
    return found


def _as_type(what: str, value: Any, kind: Any) -> Any:
    """An option's value as the type of the method's field; strings, as a command line gives them, are read.

    A type that is none of a number, a word or a truth value is the method's own to check.
    """
    choices = (
        typing.get_args(kind) if isinstance(kind, types.UnionType) or typing.get_origin(kind) is Union else (kind,)
    )
    if value is None and type(None) in choices:
        return None
    kind = next(choice for choice in choices if choice is not type(None))
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    if kind not in words:
        return value
    try:
        if kind is bool and isinstance(value, str):
            return {"true": True, "false": False}[value.lower()]
        if kind is bool and not isinstance(value, bool):
            raise ValueError
        if kind is int and isinstance(value, float) and not value.is_integer():
            raise ValueError
        if kind is float and not math.isfinite(float(value)):
            raise ValueError
        return kind(value)
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{what} is {value!r}; it must be {words[kind]}") from None
