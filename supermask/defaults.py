"""What a config leaves open: a method's recipe and options, a dataset's epochs.

What is built in is read as text, see `registry`, so that the name of a search's run folder is known without JAX.
"""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from supermask import registry
from supermask.config import SearchConfig
from supermask.errors import UsageError, require
from supermask.types import Method, Recipe

EPOCHS = 30
AUGMENT = "none"


@dataclass(frozen=True)
class Facts:
    """What a method's class says of itself.

    Attributes:
        options: type and default of each; no default is None.
    """

    options: Mapping[str, tuple[type, Any]]
    recipe: Recipe
    learned: bool
    keeps_density: bool


def filled(config: SearchConfig) -> SearchConfig:
    """The config with every None but `devices` and `micro_batch` replaced by what the method and the dataset say.

    All options of the method are in the result. A method that is not trained has 0 epochs, whatever was asked.

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
    options = {item.name: (hints[item.name], item.default) for item in fields(kind) if item.name != "density"}
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


def _options(config: SearchConfig, known: Mapping[str, tuple[type, Any]]) -> dict[str, Any]:
    for key in config.options:
        require(f"option of {config.method}", key, known)
    return {
        key: _as_type(f"option {key}", config.options[key], kind) if key in config.options else default
        for key, (kind, default) in known.items()
    }


def _as_type(what: str, value: Any, kind: type) -> Any:
    """An option's value as the type of the method's field; strings, as a command line gives them, are read."""
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
        words = {bool: "true or false", int: "a whole number", float: "a number"}
        raise UsageError(f"{what} is {value!r}; it must be {words.get(kind, kind.__name__)}") from None
