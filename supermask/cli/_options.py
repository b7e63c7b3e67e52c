"""Options that several commands share, and options made from the fields of a config."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Collection
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from supermask import recipes
from supermask.cli._help import GroupedOption
from supermask.cli._memory import memory_options
from supermask.config import Config, SearchConfig
from supermask.config.earlier import completed
from supermask.errors import BadFileError, UsageError, require
from supermask.resolve import TRAINING, AnyConfig
from supermask.runtime.places import expand

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
OF_ARCH = ("arch_options", "train", "maskable", "unmasked")
"""Fields that name parts of a network, so that they mean nothing to another one."""
_OF_RECIPE = frozenset(asdict(TRAINING))


class _Path(click.Path):
    """A path in which ~ stands for the home folder, from the command line as from the environment."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(expand(value), param, ctx)


PATH = _Path(path_type=Path, readable=False)  # an unreadable file is a bad file (exit code 3), not a wrong word


class Names(click.Choice[str]):
    """A choice that answers an unknown name with the nearest valid one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        require(param.human_readable_name.strip("[]").lower() if param else "name", value, self.choices)
        return value


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """Make a click option with an environment variable, SUPERMASK_ plus the long name; `group` as in GroupedOption."""
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
arch_option = option(
    "-a",
    "--arch-option",
    "arch_pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="Option of the network; may be repeated.",
    group="network",
)
json_option = option("--json", "as_json", is_flag=True, help="Print only JSON, one object per line.")
_data_dir_option = option(
    "--data-dir",
    type=PATH,
    help="Folder of datasets, and of relative paths in npz:, folder: and hf:.  [default: the user's cache folder]",
    group="data",
)


def base_of(recipe: str | None, resume: Path | None, kind: type[Config]) -> dict[str, Any]:
    """The config of `--recipe`, {} without one.

    Raises:
        UsageError: with `--resume`, or there is no such recipe, or it is one of another command.
    """
    if recipe and resume:
        raise UsageError("--resume takes config and folder from the run: leave out --recipe")
    return recipes.config_of(recipe, kind) if recipe else {}


def data_dir_option(command: F) -> F:
    """Add the options about where data lies and what of it fits into memory."""
    decorated: F = _data_dir_option(memory_options(command))
    return decorated


recipe_option = option(
    "--recipe",
    metavar="NAME|FILE",
    help="Take defaults from a published configuration, see `supermask list recipes`, or from a TOML file.",
)
force_option = option("--force", is_flag=True, help="Overwrite.")
quiet_option = option("-q", "--quiet", is_flag=True, help="No progress and no notes on stderr; warnings stay.")
device_option = option(
    "--device",
    type=Names(["auto", "cpu", "gpu"]),
    default="auto",
    show_default=True,
    help="Where to compute; auto uses a GPU if there is one.",
    group="machine",
)


def given(**values: Any) -> dict[str, Any]:
    """Return the values that were given, that is neither None nor an empty string."""
    return {key: value for key, value in values.items() if value not in (None, "")}


def config_options(command: F, kind: type[Config] = SearchConfig, names: Collection[str] | None = None) -> F:
    """Add an option for each field of a config with a help text, or only for those in `names`."""
    hints = typing.get_type_hints(kind)
    recipe = None if kind is SearchConfig else asdict(TRAINING)
    for item in reversed(fields(kind)):
        if "help" not in item.metadata or (names is not None and item.name not in names):
            continue
        of, settings = _plain(hints[item.name]), dict(item.metadata)
        flags = [f"--{item.name.replace('_', '-')}"] + ([settings["alias"]] if "alias" in settings else [])
        choices = settings.get("choices")
        command = option(
            *flags,
            item.name,
            type=Names(choices) if choices else of,
            is_flag=of is bool,
            default=item.default,
            show_default=item.default is not None and of is not bool,
            metavar=settings.get("metavar"),
            help=settings["help"] + _left_open(item.name, recipe),
            group=settings["group"],
        )(command)
    return command


def _left_open(name: str, recipe: dict[str, Any] | None) -> str:
    """Return the help text's note on the default of a field that the recipe sets, or ""."""
    if name not in _OF_RECIPE:
        return ""
    return f"  [default: {recipe[name]}]" if recipe else "  [default: the method's]"


def read_config(
    ctx: click.Context,
    base: dict[str, Any],
    file: Path | None,
    values: dict[str, Any],
    extra: dict[str, Any],
    kind: type[AnyConfig],
) -> AnyConfig:
    """Make the config of a call: options and environment variables override a config file, which overrides `base`.

    Args:
        ctx: click's context, which knows where each value came from.
        base: values from a recipe or a ticket.
        file: a config.json, or None.
        values: click's value for each field of the config.
        extra: fields set through other options; they count as typed.
        kind: class of the config.
    """
    base = _over(base, _read_file(file, kind) if file else {})
    asked = typed(ctx)
    given = {key: value for key, value in values.items() if key in asked}
    return kind.from_dict(_over(base, given | extra))


def typed(ctx: click.Context) -> set[str]:
    """Return the names of parameters that were typed or set in the environment."""
    sources = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    return {key for key in ctx.params if ctx.get_parameter_source(key) in sources}


def _over(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Override `base` by `values`; if they name another method or arch, drop what `base` sets for its own one."""
    if values.get("method", base.get("method")) != base.get("method"):
        base = {key: value for key, value in base.items() if key not in RECIPE}
    if values.get("arch", base.get("arch")) != base.get("arch"):
        base = {key: value for key, value in base.items() if key not in OF_ARCH}
    both = {**base, **values}
    for key in {"options", "arch_options"} & both.keys():
        both[key] = {**base.get(key, {}), **values.get(key, {})}
    return both


def _read_file(path: Path, kind: type[Config]) -> dict[str, Any]:
    from supermask.runs.index import read_config as read

    values = completed(read(path))
    try:
        kind.from_dict(values)
    except UsageError as error:
        raise BadFileError(f"{path}: {error}") from error
    return values


def parse_options(pairs: tuple[str, ...], flag: str = "-o") -> dict[str, Any]:
    """Parse `-o key=value` pairs; values stay text, since the plug-in knows their types."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"{flag} {pair!r} is not of the form key=value")
        found[key.replace("-", "_")] = value
    return found


def printer(quiet: bool = False) -> Callable[[str], None]:
    """Return a function that prints notes on stderr, or drops them under --quiet."""
    return lambda text: None if quiet else click.echo(text, err=True)


def print_json(value: dict[str, Any]) -> None:
    """Print a JSON object on one line of stdout."""
    click.echo(json.dumps(value))


def _plain(hint: Any) -> Any:
    """Return T for the hint `T | None`."""
    if isinstance(hint, types.UnionType):
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint
