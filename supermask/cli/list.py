"""supermask list: the names that options take."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from typing import Any

import click

from supermask import registry
from supermask.cli import _options as opt

KINDS = (*registry.KINDS, "inits")
WORDS = {"EPOCHS": "epochs", "AUGMENT": "augment", "SUFFIX": "file name ends in", "TABLE": "table"}


@click.command()
@click.argument("kinds", metavar="[KIND]", nargs=-1, type=opt.Names(KINDS))
@opt.option("-v", "--verbose", is_flag=True, help="With options, defaults, papers and published values.")
@opt.json_option
def command(kinds: tuple[str, ...], verbose: bool, as_json: bool) -> None:
    """The names of one kind: methods, archs, datasets, exporters, recipes or inits; all kinds without KIND."""
    for kind in kinds or KINDS:
        entries = _inits() if kind == "inits" else [registry.describe(kind, name) for name in registry.names(kind)]
        if as_json:
            for entry in entries:
                opt.print_json({"kind": kind, **_as_dict(entry, verbose)})
        else:
            _print(kind, entries, verbose)


def _inits() -> list[registry.Entry]:
    from supermask.weights.inits import INITS

    return [registry.Entry(name, (draw.__doc__ or "").split("\n")[0]) for name, draw in INITS.items()]


def _as_dict(entry: registry.Entry, verbose: bool) -> dict[str, Any]:
    named, found = {"name": entry.name, "summary": entry.summary}, entry.constants
    if "CONFIG" not in found:
        row = {**named, "options": entry.fields, **_paper(entry)}
        if verbose and "recipe" in found:
            row |= {"notes": entry.notes, "recipe": asdict(found["recipe"])}
        return row
    row = {**named, "options": found["CONFIG"], **_paper(entry)}
    return row | {key.lower(): found[key] for key in ("TABLE", "PUBLISHED", "GPU_HOURS")} if verbose else row


def _paper(entry: registry.Entry) -> dict[str, str]:
    paper = entry.constants.get("paper") or entry.constants.get("PAPER")
    return {"paper": paper} if paper else {}


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
            click.echo(f"      -o {key}={str(value).lower() if isinstance(value, bool) else value}")
            if key in entry.notes:
                click.echo(click.wrap_text(entry.notes[key], _width(), *(" " * 10,) * 2))
        for key, value in (_paper(entry) | _defaults(entry) | _trained(entry) | _recipe(entry)).items():
            click.echo(f"      {key}: {value}")


def _defaults(entry: registry.Entry) -> dict[str, Any]:
    return {word: entry.constants[key] for key, word in WORDS.items() if key in entry.constants}


def _trained(entry: registry.Entry) -> dict[str, Any]:
    """How a search of the method is set up unless asked otherwise, as options."""
    recipe = entry.constants.get("recipe")
    return {"recipe": " ".join(_flags(asdict(recipe)))} if recipe and entry.constants.get("learned", True) else {}


def _recipe(entry: registry.Entry) -> dict[str, Any]:
    """What a recipe claims, what it takes, and the options that it stands for."""
    if "CONFIG" not in entry.constants:
        return {}
    config, published = entry.constants["CONFIG"], dict(entry.constants["PUBLISHED"])
    source = published.pop("source")
    values = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in published.items())
    return {
        "published": f"{values}; source: {source}",
        "epochs": config["epochs"],
        "GPU hours": f"{entry.constants['GPU_HOURS']:g} (our estimate)",
        "options": " ".join(_flags(config)),
    }


def _width() -> int:
    return min(120, shutil.get_terminal_size((120, 24)).columns)


def _flags(config: dict[str, Any]) -> list[str]:
    flags = []
    for key, value in config.items():
        name = f"--{key.replace('_', '-')}"
        if key == "options":
            flags += [f"-o {option}={str(own).lower()}" for option, own in value.items()]
        elif isinstance(value, bool):
            flags += [name] if value else []
        else:
            flags.append(f"{name} {value}")
    return flags
