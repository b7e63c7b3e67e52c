"""Options that commands share, and those that are read off SearchConfig."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from supermask import recipes
from supermask.cli._help import GroupedOption
from supermask.config import SearchConfig
from supermask.errors import BadFileError, UsageError, require
from supermask.masks.allocation import ALLOCATIONS

F = Callable[..., Any]
RECIPE = (
    "options",
    "init",
    "activation",
    "normalise",
    "optimizer",
    "learning_rate",
    "momentum",
    "weight_decay",
    "schedule",
    "batch_size",
)
PATH = click.Path(path_type=Path, readable=False)  # what cannot be read is a bad file, and no wrong word


class Names(click.Choice[str]):
    """A choice that answers a wrong name with the nearest."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        require(param.human_readable_name.strip("[]").lower() if param else "name", value, self.choices)
        return value


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """A click option with its environment variable, SUPERMASK_ and the long name; `group` as for GroupedOption."""
    long = next(name for name in names if name.startswith("--")).split("/")[0]
    settings.setdefault("envvar", "SUPERMASK_" + long.lstrip("-").replace("-", "_").upper())
    return click.option(*names, cls=GroupedOption, **settings)


method_option = option(
    "-o",
    "--option",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="Option of the method; may be repeated.",
    group="method",
)
json_option = option("--json", "as_json", is_flag=True, help="Print one JSON object per line, and nothing else.")
data_dir_option = option(
    "--data-dir", type=PATH, help="Folder of datasets.  [default: the user's cache folder]", group="data"
)
force_option = option("--force", is_flag=True, help="Overwrite.")
quiet_option = option("-q", "--quiet", is_flag=True, help="No progress and no notes on stderr.")
device_option = option(
    "--device",
    type=Names(["auto", "cpu", "gpu"]),
    default="auto",
    show_default=True,
    help="Where to compute; auto takes a GPU if there is one.",
    group="machine",
)


def topk_options(command: F) -> F:
    """Where the density goes; these stand for options of every method that keeps an exact number of weights."""
    for decorate in (
        option("--pattern", metavar="N:M", help="Keep the best N of every M inputs of each output.", group="method"),
        option(
            "--layer-density",
            multiple=True,
            metavar="NAME=DENSITY",
            help="Density of the layers of that name, such as 'head/*=1.0'; may be repeated.",
            group="method",
        ),
        option(
            "--allocation",
            type=Names(ALLOCATIONS),
            help="How the density is dealt out over layers.  [default: the method's]",
            group="method",
        ),
    ):
        command = decorate(command)
    return command


def given(**values: Any) -> dict[str, Any]:
    """Those that were."""
    return {key: value for key, value in values.items() if value not in (None, "")}


def config_options(command: F, names: Collection[str] | None = None) -> F:
    """One option per field of SearchConfig, or per field named, with its help, choices and default."""
    hints = typing.get_type_hints(SearchConfig)
    for item in reversed(fields(SearchConfig)):
        if item.name == "options" or (names is not None and item.name not in names):
            continue
        kind, settings = _plain(hints[item.name]), dict(item.metadata)
        flags = [f"--{item.name.replace('_', '-')}"] + ([settings["alias"]] if "alias" in settings else [])
        choices = settings.get("choices")
        command = option(
            *flags,
            item.name,
            type=Names(choices) if choices else kind,
            is_flag=kind is bool,
            default=item.default,
            show_default=item.default is not None and kind is not bool,
            help=settings["help"],
            group=settings["group"],
        )(command)
    return command


def read_config(
    ctx: click.Context, values: dict[str, Any], file: Path | None, extra: dict[str, Any], recipe: str | None = None
) -> SearchConfig:
    """The config of a call: what was typed or set in the environment, over a config file, a recipe, the defaults.

    Args:
        values: click's value for each field of SearchConfig.
        file: a config.json, or None.
        extra: fields that other options were translated to; they count as typed.
        recipe: the name of one, or None.
    """
    base = _over(dict(recipes.read(recipe).config) if recipe else {}, _read_file(file) if file else {})
    asked = typed(ctx)
    given = {key: value for key, value in values.items() if key in asked}
    return SearchConfig.from_dict(_over(base, given | extra))


def typed(ctx: click.Context) -> set[str]:
    """The parameters that were typed or set in the environment."""
    sources = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    return {key for key in ctx.params if ctx.get_parameter_source(key) in sources}


def _over(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """`values` over `base`; where they name another method, how the one in `base` is trained is left out."""
    if values.get("method", base.get("method")) != base.get("method"):
        base = {key: value for key, value in base.items() if key not in RECIPE}
    both = {**base, **values}
    if "options" in both:
        both["options"] = {**base.get("options", {}), **values.get("options", {})}
    return both


def _read_file(path: Path) -> dict[str, Any]:
    from supermask.runs.index import read_config as read

    values = read(path)
    try:
        SearchConfig.from_dict(values)
    except UsageError as error:
        raise BadFileError(f"{path}: {error}") from error
    return values


def parse_options(pairs: tuple[str, ...]) -> dict[str, Any]:
    """`-o key=value` pairs; values are left as text, the method knows their types."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"-o {pair!r} is not of the form key=value")
        found[key.replace("-", "_")] = value
    return found


_cpu_devices: list[str] = []
"""How many were chosen by the last call of `choose_device`, if there was one."""


def choose_device(device: str, count: int | None = None) -> None:
    """Say by the environment how JAX is to set itself up when it is imported; variables that are set already win.

    A CPU becomes as many devices as it has cores, or more if `count` is: two that work on halves of a batch are faster
    than one whose threads share each matrix product.
    """
    import os

    import platformdirs

    # A second call of the same search compiles nothing. JAX trusts what it finds, so the folder is the user's own.
    cache = os.path.join(platformdirs.user_cache_dir("supermask"), "compiled")
    with suppress(OSError):  # a home that cannot be written to has no cache, and needs no warning
        os.makedirs(cache, mode=0o700, exist_ok=True)
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    # On a shared GPU, taking three quarters of the memory at once is rude; a user who wants it says so.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if os.environ.get("JAX_NUM_CPU_DEVICES") in (None, *_cpu_devices):  # else the user has set it
        _cpu_devices[:] = [str(max(count or 1, cores or 1))]
        os.environ["JAX_NUM_CPU_DEVICES"] = _cpu_devices[0]


def require_device(device: str) -> None:
    """Raise a UsageError if a GPU was asked for and JAX sees none."""
    if device != "gpu":
        return
    import jax

    if jax.default_backend() != "gpu":
        raise UsageError(
            f"--device gpu: JAX sees no GPU, only {jax.default_backend()}; install with pip install 'supermask[cuda]'"
        )


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on one line of stdout."""
    click.echo(json.dumps(value))


def _plain(hint: Any) -> Any:
    """The type in `T | None`."""
    if isinstance(hint, types.UnionType):
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint
