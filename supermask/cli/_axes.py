"""The options of `sweep` and `tune` for the axes: all options of the commands that it calls which take one value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path

import click

from supermask import registry
from supermask.cli import _options as opt
from supermask.cli import forget, lottery, search, train
from supermask.cli._help import GroupedCommand, GroupedOption
from supermask.config.sweep import Sweep
from supermask.errors import UsageError, require

CALLED = {"search": search, "train": train, "lottery": lottery, "forget": forget}
OWN = (
    *("config_file", "out", "runs_dir", "resume", "seeds"),
    *("device", "devices", "data_dir", "workers", "resident_limit", "coordinator", "processes", "process"),
)
"""Options of the commands that are no axes: they say where and how a run is executed, not what it is."""
_BEHIND = "supermask.axes.behind"


class AxesCommand(GroupedCommand):
    """Keeps the words behind -- apart: they are options of the command that is called."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[_BEHIND] = tuple(args[at + 1 :])
        return super().parse_args(ctx, args[:at])


def behind(ctx: click.Context) -> tuple[str, ...]:
    """The words behind --."""
    words: tuple[str, ...] = ctx.meta[_BEHIND]
    return words


def axes() -> dict[str, GroupedOption]:
    """The options of the commands that can be axes, by their long names: those that take one value."""
    found: dict[str, GroupedOption] = {}
    for module in CALLED.values():
        for item in module.command.params:
            if isinstance(item, GroupedOption) and not (item.is_flag or item.multiple or item.name in OWN):
                found.setdefault(_long(item), item)
    return {name: item for name, item in found.items() if item.group != "run" or name in ("seed", "recipe")}


def axis_options(command: opt.F, but: Collection[str] = ()) -> opt.F:
    """Add an option for every axis, which takes several values; `but` names those to leave out."""
    for name, item in reversed(axes().items()):
        if name in but:
            continue
        flags = ["--seed", "--seeds"] if name == "seed" else item.opts
        command = click.option(
            *flags,
            f"axis_{name.replace('-', '_')}",
            cls=GroupedOption,
            group=item.group,
            metavar="VALUES",
            help=(item.help or "").partition("  [default")[0],
        )(command)
    for short, parameter, what in ("-o", "pairs", "method"), ("-a", "arch_pairs", "network"):
        command = click.option(
            short,
            parameter,
            multiple=True,
            metavar="KEY=VALUES",
            cls=GroupedOption,
            group=what,
            help=f"Values for an option of the {what}; may be repeated.",
        )(command)
    return command


def typed_axes(values: Mapping[str, str | None], pairs: tuple[str, ...], arch_pairs: tuple[str, ...]) -> dict[str, str]:
    """Axis -> its values as typed, from what the options of `axis_options` gave."""
    typed = {name.removeprefix("axis_").replace("_", "-"): text for name, text in values.items() if text is not None}
    for short, given in ("-o", pairs), ("-a", arch_pairs):
        typed |= {f"{short} {key}": str(text) for key, text in opt.parse_options(given, short).items()}
    return typed


def check(sweep: Sweep) -> None:
    """Check every value of every axis as the command itself does, before anything is called."""
    if not sweep.axes:
        raise UsageError("there is no axis, such as --density 0.1:0.9:0.2")
    known = axes()
    for name in sweep.axes:
        if " " not in name:
            require("axis", name, known, " (any other option belongs behind --, or into [options] of a file)")
    called, *arguments = sweep.arguments({name: values[0] for name, values in sweep.axes.items()})
    command = CALLED[called].command
    with command.make_context(f"supermask {called}", arguments) as ctx:
        for item in command.params:
            name = _long(item)
            for value in sweep.axes.get(name, ()):  # a context for each of 10,000 seeds would take long
                item.type_cast_value(ctx, value)
                if name in ("arch", "method", "dataset"):
                    registry.check_name(f"{name}s", value)


def default_path(root: str, sweep: Sweep) -> Path:
    """ROOT/COMMAND-HASH."""
    digest = hashlib.sha256(json.dumps(sweep.to_dict()).encode()).hexdigest()[:8]
    return Path(root) / f"{sweep.command}-{digest}"


def _long(item: click.Option) -> str:
    return max(item.opts, key=len).lstrip("-")
