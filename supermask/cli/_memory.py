"""The options that say how much memory data may take, and how many processes decode images; of this machine alone."""

from __future__ import annotations

from typing import Any

import click

from supermask.cli._help import GroupedOption
from supermask.runtime import memory


def memory_options(command: Any) -> Any:
    """Add the options; they hold until the command ends, and reach no config."""
    for name, variable, metavar, text in (
        (
            "--workers",
            memory.WORKERS,
            "N",
            "Processes that decode images that stream; 0 decodes in threads.  [default: the cores but one]",
        ),
        (
            "--resident-limit",
            memory.LIMIT,
            "SIZE",
            "Data that takes more, such as 2GB, streams.  [default: half of the free memory]",
        ),
    ):
        command = click.option(
            name,
            cls=GroupedOption,
            group="machine",
            envvar=variable,
            metavar=metavar,
            help=text,
            expose_value=False,
            callback=_hold,
        )(command)
    return command


def _hold(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Let an option hold for the length of the command, once it is known to make sense."""
    if value is None:
        return
    variable = memory.LIMIT if param.name == "resident_limit" else memory.WORKERS
    ctx.with_resource(memory.using(variable, value))
    memory.resident_limit()
    memory.workers()
