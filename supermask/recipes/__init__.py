"""Published configurations as data: one TOML file per paper, one table in it per published result.

`zhou2019-fc-sc` is the table `[fc-sc]` of zhou2019.toml; what it leaves out is in `[defaults]` of the same file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from supermask import registry
from supermask.config import Config, SearchConfig, TrainConfig
from supermask.config.forget import ForgetConfig
from supermask.config.lottery import LotteryConfig
from supermask.errors import BadFileError, UsageError, require
from supermask.recipes import _own
from supermask.runtime.places import expand

SOURCES = ("paper", "readme", "code", "third party", "figure", "memory (unverified)")
QUANTITIES = ("test_accuracy", "density", "bits_per_parameter")
EXPERIMENTS: dict[str, type[Config]] = {
    "search": SearchConfig,
    "train": TrainConfig,
    "lottery": LotteryConfig,
    "forget": ForgetConfig,
    "criteria": TrainConfig,
}
"""What a recipe may stand for, and the config that it has; `criteria` compares masks after a dense training."""


@dataclass(frozen=True)
class PublishedRecipe:
    """A published result and the experiment that stands for it.

    Attributes:
        name: what `--recipe` of its command takes.
        summary: one line, as `supermask list recipes` prints it.
        paper: authors, year and arXiv number.
        table: what `supermask reproduce` takes; all results of a published table share it.
        config: fields of the experiment's config, in their order there.
        published: `test_accuracy`, and where given `density` and `bits_per_parameter`; `source`, one of SOURCES, says
            where we have them from. A result that is known only from a figure has words in `finding` instead.
        gpu_hours: our estimate for one search.
        notes: where this tool and the publication differ.
        epochs_per_round: a search of fewer epochs is cut to a multiple of this.
        experiment: a key of EXPERIMENTS.
        at: which of the experiment's results this is: `round` and `branch` of a lottery, `generation` and `branch` of
            forgetting, `criterion` and `values`.
    """

    name: str
    summary: str
    paper: str
    table: str
    config: Mapping[str, Any]
    published: Mapping[str, Any]
    gpu_hours: float
    notes: str = ""
    epochs_per_round: int = 1
    experiment: str = "search"
    at: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config_class(self) -> type[Config]:
        """Of the experiment."""
        return EXPERIMENTS[self.experiment]


def read(name: str) -> PublishedRecipe:
    """The recipe of that name.

    Raises:
        UsageError: there is none.
        BadFileError: its file is no TOML file, or a key is missing, unknown or of the wrong kind; the message names
            file, table and key.
    """
    require("recipe", name, registry.names("recipes"), " (`supermask list recipes` describes them)")
    path, cell = registry.recipe_source(name)
    tables = registry.recipe_tables(path)
    try:
        return PublishedRecipe(name, **_checked(_laid_over(tables.get("defaults", {}), tables[cell])))
    except UsageError as error:
        raise BadFileError(f"{path}: [{cell}]: {error}") from error


def config_of(name: str, kind: type[Config]) -> dict[str, Any]:
    """The config of a recipe, for the command whose configs are of this class.

    Args:
        name: of a published one, or the path of a TOML file with one of the user's own.

    Raises:
        UsageError: there is no such recipe, or it is one of another command.
        BadFileError: see `read`.
    """
    if name.endswith(_own.SUFFIX):
        experiment = next(command for command, other in EXPERIMENTS.items() if other is kind)
        return _own.read(expand(name), experiment, kind)
    found = read(name)
    if found.config_class is not kind:
        command = "reproduce" if found.experiment == "criteria" else found.experiment
        raise UsageError(f"{name} is a recipe of `supermask {command}`: use it there")
    return dict(found.config)


def _laid_over(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` over `base`, tables inside them key by key."""
    both = {
        key: _laid_over(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in values.items()
    }
    return {**base, **both}


def _checked(table: Mapping[str, Any]) -> dict[str, Any]:
    items = {item.name: item for item in fields(PublishedRecipe) if item.name != "name"}
    for key, item in items.items():
        if key not in table and item.default is MISSING and item.default_factory is MISSING:
            raise UsageError(f"the key {key!r} is missing")
    for key, value in table.items():
        require("key", key, items)
        right, expected = _KINDS[items[key].type]
        if not right(value):
            raise UsageError(f"{key} is {value!r}; it must be {expected}")
    experiment = table.get("experiment", "search")
    require("experiment", experiment, EXPERIMENTS)
    return {
        **table,
        "notes": " ".join(table.get("notes", "").split()),
        "config": _checked_config(table["config"], EXPERIMENTS[experiment]),
        "published": _checked_result(table["published"]),
    }


def _checked_config(values: Mapping[str, Any], kind: type[Config]) -> dict[str, Any]:
    for key in ("arch", "dataset", *(("method",) if kind is SearchConfig else ()), "epochs"):
        if key not in values:
            raise UsageError(f"the key 'config.{key}' is missing")
    kind.from_dict(values)
    return {item.name: values[item.name] for item in fields(kind) if item.name in values}


def _checked_result(values: Mapping[str, Any]) -> dict[str, Any]:
    for key in ("test_accuracy", "source"):
        if key not in values and not (key == "test_accuracy" and "finding" in values):
            raise UsageError(f"the key 'published.{key}' is missing")
    for key, value in values.items():
        require("key of published", key, (*QUANTITIES, "finding", "source"))
        if key in QUANTITIES and not _is_positive(value):
            raise UsageError(f"published.{key} is {value!r}; it must be a number above 0")
    require("published.source", values["source"], SOURCES)
    return {key: values[key] for key in (*QUANTITIES, "finding", "source") if key in values}


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf


_KINDS: dict[Any, tuple[Any, str]] = {
    "str": (lambda value: isinstance(value, str), "text"),
    "int": (lambda value: type(value) is int and value > 0, "a whole number above 0"),
    "float": (_is_positive, "a number above 0"),
    "Mapping[str, Any]": (lambda value: isinstance(value, dict), "a table"),
}
