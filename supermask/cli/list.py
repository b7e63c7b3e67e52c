"""supermask list: the names that options take."""

from __future__ import annotations

from typing import Any

import click

from supermask import registry
from supermask.cli import _options as opt

KINDS = (*registry.KINDS, "inits")


@click.command()
@click.argument("kinds", metavar="[KIND]", nargs=-1, type=opt.Names(KINDS))
@opt.option("-v", "--verbose", is_flag=True, help="With options, defaults and papers.")
@opt.json_option
def command(kinds: tuple[str, ...], verbose: bool, as_json: bool) -> None:
    """The names of one kind: methods, archs, datasets, inits or exporters; all kinds without KIND."""
    for kind in kinds or KINDS:
        entries = _inits() if kind == "inits" else [registry.describe(kind, name) for name in registry.names(kind)]
        if as_json:
            for entry in entries:
                opt.print_json({"kind": kind, **_as_dict(entry)})
        else:
            _print(kind, entries, verbose)


def _inits() -> list[registry.Entry]:
    from supermask.inits import INITS

    return [registry.Entry(name, (draw.__doc__ or "").split("\n")[0]) for name, draw in INITS.items()]


def _as_dict(entry: registry.Entry) -> dict[str, Any]:
    return {"name": entry.name, "summary": entry.summary, "options": entry.fields, **_paper(entry)}


def _paper(entry: registry.Entry) -> dict[str, str]:
    return {"paper": entry.constants["paper"]} if "paper" in entry.constants else {}


def _print(kind: str, entries: list[registry.Entry], verbose: bool) -> None:
    from supermask.cli._tables import table

    click.echo(f"{kind}:")
    if not verbose:
        rows = [[f"  {entry.name}", entry.summary] for entry in entries]
        click.echo(table(rows))
        return
    for entry in entries:
        click.echo(f"  {entry.name}\n      {entry.summary}")
        for key, value in entry.fields.items():
            click.echo(f"      -o {key}={value}")
        for key, value in (_paper(entry) | _defaults(entry)).items():
            click.echo(f"      {key}: {value}")


def _defaults(entry: registry.Entry) -> dict[str, Any]:
    words = {"EPOCHS": "epochs", "AUGMENT": "augment", "SUFFIX": "file name ends in"}
    return {words[key]: entry.constants[key] for key in words if key in entry.constants}
