"""The options of `sweep` for the axes: all options of the commands that it calls which take one value."""

from __future__ import annotations

import click

from supermask.cli import _options as opt
from supermask.cli import forget, lottery, search, train
from supermask.cli._help import GroupedOption

CALLED = {"search": search, "train": train, "lottery": lottery, "forget": forget}
OWN = (
    *("config_file", "out", "runs_dir", "resume", "seeds"),
    *("device", "devices", "data_dir", "workers", "resident_limit"),
)
"""Options of the commands that are no axes: they say where and how a run is executed, not what it is."""


def axes() -> dict[str, GroupedOption]:
    """The options of the commands that can be axes, by their long names: those that take one value."""
    found: dict[str, GroupedOption] = {}
    for module in CALLED.values():
        for item in module.command.params:
            if isinstance(item, GroupedOption) and not (item.is_flag or item.multiple or item.name in OWN):
                found.setdefault(_long(item), item)
    return {name: item for name, item in found.items() if item.group != "run" or name in ("seed", "recipe")}


def axis_options(command: opt.F) -> opt.F:
    """Add an option for every axis, which takes several values."""
    for name, item in reversed(axes().items()):
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


def _long(item: click.Option) -> str:
    return max(item.opts, key=len).lstrip("-")
