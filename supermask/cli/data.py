"""supermask data: which datasets there are and where they lie; gets and verifies them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supermask.cli import _options as opt
from supermask.errors import require

if TYPE_CHECKING:
    from supermask.experiments.inventory import Entry, Report


class Actions(click.Group):
    """A group that answers an unknown action with the nearest one."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if not args[0].startswith("-"):
            require("action", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)


@click.group(cls=Actions)
def command() -> None:
    """List, fetch and verify datasets, and print where they lie."""


@command.command("list")
@opt.data_dir_option
@opt.json_option
def list_command(data_dir: Path | None, as_json: bool) -> None:
    """List all datasets and where they lie.

    Numbers are those of the official files.
    """
    from supermask import registry
    from supermask.cli._tables import table
    from supermask.experiments.inventory import entry

    entries = [entry(name, data_dir) for name in registry.names("datasets")]
    if as_json:
        for found in entries:
            opt.print_json(_as_dict(found))
        return
    header = ["dataset", "train", "test", "image", "classes", "on disk", "where"]
    click.echo(table([header, *map(_cells, entries)], right={1, 2, 4, 5}))


@command.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@opt.data_dir_option
@opt.json_option
def fetch(names: tuple[str, ...], data_dir: Path | None, as_json: bool) -> None:
    """Download what is missing.

    Prints where the files lie.
    """
    from supermask.experiments import inventory

    for name in names:
        paths, fetched = inventory.fetch(name, data_dir)
        if as_json:
            sizes = {"bytes": inventory.size_of(paths), "fetched": fetched}
            opt.print_json({"dataset": name, "paths": [str(path) for path in paths], **sizes})
        else:
            _print_places(paths)


@command.command()
@click.argument("name", metavar="NAME")
@opt.option("--image-size", type=click.IntRange(min=1), help="Resize images to squares, if their sizes differ.")
@opt.data_dir_option
@opt.json_option
def verify(name: str, image_size: int | None, data_dir: Path | None, as_json: bool) -> None:
    """Read everything with every check.

    Ends with exit code 3 if something is missing or damaged. Nothing is downloaded. Files with the size of the official
    ones must have their SHA-256 too.
    """
    from supermask.experiments.inventory import verify as verified

    report = verified(name, data_dir, image_size)
    if as_json:
        opt.print_json(
            {
                "dataset": report.name,
                "paths": [str(path) for path in report.paths],
                "classes": report.classes,
                "splits": report.splits,
                "official": [str(path) for path in report.official],
            }
        )
    else:
        _print_report(report)


@command.command()
@click.argument("name", metavar="NAME")
@opt.data_dir_option
def where(name: str, data_dir: Path | None) -> None:
    """Print the file or folder that is read.

    Ends with exit code 3 if it is not here.
    """
    from supermask.experiments.inventory import found

    _print_places(found(name, data_dir))


def _print_places(paths: list[Path]) -> None:
    from supermask.experiments.inventory import places

    for path in places(paths):
        click.echo(str(path))


def _as_dict(found: Entry) -> dict[str, Any]:
    return {
        "dataset": found.name,
        "train": found.train,
        "test": found.test,
        "image": found.image,
        "classes": found.classes,
        "paths": [str(path) for path in found.paths],
        "bytes": found.bytes,
        "is_fetched": found.is_fetched,
        "is_made": found.is_made,
    }


def _cells(found: Entry) -> list[str]:
    from supermask.experiments.inventory import places

    image = "x".join(map(str, found.image)) if found.image else "any" if found.train else ""
    counts = [f"{count:,}" if count else "" for count in (found.train, found.test)]
    place = ", ".join(map(str, places(found.paths))) or _missing(found)
    return [found.name, *counts, image, f"{found.classes:,}" if found.classes else "", _size(found), place]


def _missing(found: Entry) -> str:
    if found.is_made:
        return "made when used"
    if found.train is None:
        return "your own" if found.name.endswith(":PATH") else "by name"
    return "not here; fetched when used" if found.is_fetched else "not here; yours to get"


def _size(found: Entry) -> str:
    if found.bytes is None:
        return "many files" if found.paths else ""
    return f"{found.bytes / 1e6:,.1f} MB"


def _print_report(report: Report) -> None:
    from supermask.cli._tables import table
    from supermask.experiments.inventory import places

    rows = [["split", "examples", "shape", "labels", "per class"]]
    for part, facts in report.splits.items():
        ranges = [" to ".join(f"{value:,}" for value in facts[key]) for key in ("labels", "per_class")]
        rows.append([part, f"{facts['examples']:,}", "x".join(map(str, facts["shape"])), *ranges])
    lies = f" in {', '.join(map(str, places(report.paths)))}" if report.paths else ""
    click.echo(f"{report.name}{lies}: {report.classes:,} classes")
    click.echo(table(rows, right={1}))
    if report.official:
        names = ", ".join(path.name for path in report.official)
        click.echo(f"as published, by SHA-256: {names}")
