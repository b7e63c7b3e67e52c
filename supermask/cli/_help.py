"""The --help of commands with many options: one section for each group of options."""

from __future__ import annotations

from typing import Any

import click

GROUPS = ("network", "data", "method", "training", "machine", "run")
"""The sections, in order. An option that names no group, --help among them, is about the run."""
TERM_WIDTH = 30
"""Longer option names stand on a line of their own, as click has it."""


class GroupedOption(click.Option):
    """An option that knows its group.

    Args:
        group: one of GROUPS.
    """

    def __init__(self, *args: Any, group: str = "run", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose --help lists its options under the headings of GROUPS; empty groups are left out."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, with the help texts of all of them in one column."""
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in GROUPS}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record and isinstance(param, click.Option):
                sections[getattr(param, "group", "run")].append(record)
        longest = max(len(term) for rows in sections.values() for term, _ in rows)
        width = min(longest, TERM_WIDTH)
        for name, rows in sections.items():
            if rows:
                with formatter.section(name.capitalize()):
                    formatter.write_dl([(term.ljust(width), text) for term, text in rows], col_max=TERM_WIDTH)
