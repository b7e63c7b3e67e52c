"""supermask list: prints the names that options take."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from supermask import registry
from supermask.cli import _options as opt
from supermask.recipes import QUANTITIES, PublishedRecipe
from supermask.resolve import arch_options

KINDS = (*registry.KINDS, "inits")
WORDS = {"EPOCHS": "epochs", "AUGMENT": "augment", "SUFFIX": "file name ends in"}


@click.command()
@click.argument("kinds", metavar="[KIND]", nargs=-1, type=opt.Names(KINDS))
@opt.option("-v", "--verbose", is_flag=True, help="Also print options, defaults, papers and published values.")
@opt.json_option
def command(kinds: tuple[str, ...], verbose: bool, as_json: bool) -> None:
    """List the names of one KIND: methods, archs, datasets, tasks, exporters, criteria, recipes or inits; or all."""
    for kind in kinds or KINDS:
        entries = _entries(kind)
        if as_json:
            for entry in entries:
                opt.print_json({"kind": kind, **_as_dict(kind, entry, verbose)})
        else:
            _print(kind, entries, verbose)


def _entries(kind: str) -> Sequence[registry.Entry | PublishedRecipe]:
    if kind == "inits":
        from supermask.weights.inits import INITS

        return [registry.Entry(name, (draw.__doc__ or "").split("\n")[0]) for name, draw in INITS.items()]
    read = registry.load if kind == "recipes" else registry.describe
    return [read(kind, name) for name in registry.names(kind)]


def _as_dict(kind: str, entry: registry.Entry | PublishedRecipe, verbose: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"name": entry.name, "summary": entry.summary}
    if isinstance(entry, PublishedRecipe):
        row |= {"options": entry.config, "paper": entry.paper}
        more = {"table": entry.table, "published": entry.published, "gpu_hours": entry.gpu_hours}
        return row | more if verbose else row
    row |= {"options": _options(kind, entry), **_paper(entry)}
    if verbose and "recipe" in entry.constants:
        row |= {"notes": entry.notes, "recipe": asdict(entry.constants["recipe"])}
    return row


def _paper(entry: registry.Entry) -> dict[str, str]:
    return {"paper": entry.constants["paper"]} if entry.constants.get("paper") else {}


def _print(kind: str, entries: Sequence[registry.Entry | PublishedRecipe], verbose: bool) -> None:
    from supermask.cli._tables import table

    click.echo(f"{kind}:")
    if not verbose:
        click.echo(table([[f"  {entry.name}", entry.summary] for entry in entries]))
        return
    for entry in entries:
        click.echo(f"  {entry.name}\n      {entry.summary}")
        if isinstance(entry, PublishedRecipe):
            facts = _of_recipe(entry)
        else:
            _print_options(kind, entry)
            facts = _paper(entry) | _defaults(entry) | _trained(entry)
        for key, value in facts.items():
            click.echo(f"      {key}: {value}")


def _options(kind: str, entry: registry.Entry) -> dict[str, Any]:
    """Return the options of a plug-in.

    Fields of an arch that the config sets, such as --width, are none. Criteria of a family have a name each instead.
    """
    return arch_options(entry.name) if kind == "archs" else {} if kind == "criteria" else entry.fields


def _print_options(kind: str, entry: registry.Entry) -> None:
    flag = "-a" if kind == "archs" else "-o"
    for key, value in _options(kind, entry).items():
        click.echo(f"      {flag} {key}={str(value).lower() if isinstance(value, bool) else value}")
        if key in entry.notes:
            click.echo(click.wrap_text(entry.notes[key], _width(), *(" " * 10,) * 2))


def _defaults(entry: registry.Entry) -> dict[str, Any]:
    return {word: entry.constants[key] for key, word in WORDS.items() if key in entry.constants}


def _trained(entry: registry.Entry) -> dict[str, Any]:
    """Return the recipe of a method as options; nothing for a method that is not trained."""
    recipe = entry.constants.get("recipe")
    return {"recipe": " ".join(_flags(asdict(recipe)))} if recipe and entry.constants.get("learned", True) else {}


def _of_recipe(recipe: PublishedRecipe) -> dict[str, Any]:
    """Return the published results of a recipe, its cost, and the options that it stands for."""
    values = [f"{key.replace('_', ' ')} {value:g}" for key, value in recipe.published.items() if key in QUANTITIES]
    values += [recipe.published["finding"]] if "finding" in recipe.published else []
    return {
        "paper": recipe.paper,
        "table": recipe.table,
        "published": f"{', '.join(values)}; source: {recipe.published['source']}",
        "epochs": recipe.config["epochs"],
        "GPU hours": f"{recipe.gpu_hours:g} (our estimate)",
        "options": " ".join(_flags(recipe.config)),
    }


def _width() -> int:
    return min(120, shutil.get_terminal_size((120, 24)).columns)


def _flags(config: Mapping[str, Any]) -> list[str]:
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
