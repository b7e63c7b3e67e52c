"""The option of commands that draw a picture of what they print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from supermask.cli import _options as opt


def _checked(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Check the picture's path, and that it can be drawn, before the command begins its work."""
    if path is not None and not ctx.resilient_parsing:
        from supermask.report.figure import check_picture

        check_picture(path)
    return path


def plot_option(help: str, name: str = "--plot") -> Any:
    """Make the option --plot; the parameter `plot` is a path that was checked, or None.

    Args:
        help: what is drawn.
        name: of an option beside --plot, for another picture.
    """
    return opt.option(name, type=opt.PATH, metavar="FILE.png|svg", callback=_checked, help=f"{help}  Needs matplotlib.")
