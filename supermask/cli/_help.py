"""--help for commands with many options: one section per group of options."""

from __future__ import annotations

from typing import Any

import click

GROUPS = ("network", "data", "method", "training", "machine", "run")
"""The sections, in order. Options without a group, such as --help, belong to the last one, run."""
TERM_WIDTH = 30
"""Longer option names get a line of their own, which is click's own layout."""
HELP_NAMES = ["-h", "--help"]


class GroupedOption(click.Option):
    """An option that knows its group.

    Args:
        group: one of GROUPS.
    """

    def __init__(self, *args: Any, group: str = "run", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose --help lists its options under the headings in GROUPS, leaving out empty groups."""

    def __init__(self, name: str | None, context_settings: dict[str, Any] | None = None, **more: Any) -> None:
        """It knows -h by itself, for Click keeps the help option of the first context, which may have no group."""
        settings = {"help_option_names": HELP_NAMES} | (context_settings or {})
        super().__init__(name, context_settings=settings, **more)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, with all help texts in one column."""
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
