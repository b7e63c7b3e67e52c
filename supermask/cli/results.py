"""supermask results: means over the seeds of many runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supermask.cli import _options as opt
from supermask.cli._plot import plot_option
from supermask.cli._tables import table
from supermask.errors import UsageError, require

if TYPE_CHECKING:
    from supermask.runs.collection import Collection

EPILOG = """\b
Examples:
  supermask results sweeps/NAME
  supermask results runs --metric density --json
  supermask results sweeps/NAME --plot accuracy.svg --x density --hue method"""


@click.command(epilog=EPILOG)
@click.argument("folders", nargs=-1, required=True, type=opt.PATH, metavar="FOLDER...")
@opt.option("--metric", help="Column of the results to summarise.  [default: test_accuracy or val_accuracy]")
@plot_option("Draw the metric, with the spread over seeds.")
@opt.option("--x", "across", help="--plot: field on the x axis.  [default: the first that is a number]")
@opt.option("--hue", help="--plot: field that tells the curves apart.  [default: the next one]")
@opt.json_option
def command(
    folders: tuple[Path, ...], metric: str | None, plot: Path | None, across: str | None, hue: str | None, as_json: bool
) -> None:
    """Print mean, standard deviation and 95 % interval over seeds for every config in folders of runs.

    A row per combination of the config's fields that differ between the runs.
    """
    from supermask.runs.collection import collect, summarise

    if (across or hue) and not plot:
        raise UsageError("--x and --hue are about the picture: give --plot FILE")
    found = collect(folders)
    for path, why in list(found.left_out.items())[:5]:
        click.echo(f"note: left out: {path}: {why}", err=True)
    if (more := len(found.left_out) - 5) > 0:
        click.echo(f"note: left out: {more} more", err=True)
    metric, rows = summarise(found, metric)
    if plot:
        _draw(found, rows, metric, plot, across, hue)
    if as_json:
        for row in rows:
            opt.print_json({**row, "metric": metric})
        return
    names = [name for name in rows[0] if name not in ("n", "mean", "std", "ci95")]
    cells = [[*names, "n", metric, "std", "95 %"]]
    for row in rows:
        numbers = ["" if row[key] is None else f"{row[key]:.4f}" for key in ("mean", "std", "ci95")]
        numbers[2] = numbers[2] and f"+- {numbers[2]}"
        cells.append([*(_text(row[name]) for name in names), str(row["n"]), *numbers])
    click.echo(table(cells, right=set(range(len(names), len(names) + 4))))


def _draw(
    found: Collection, rows: list[dict[str, Any]], metric: str, plot: Path, across: str | None, hue: str | None
) -> None:
    from supermask.report.curves import curves

    names = [name for name in rows[0] if name not in ("n", "mean", "std", "ci95")]
    numeric = [name for name in names if all(isinstance(row[name], int | float) for row in rows)]
    if across is None and not numeric:
        raise UsageError("no number differs between these runs, so there is nothing to draw against")
    across = across or numeric[0]
    require("field", across, numeric)
    rest = [name for name in names if name != across]
    if hue is not None:
        require("field", hue, rest)
    hue = hue or next(iter(rest), "")
    if others := [name for name in rest if name != hue]:
        click.echo(f"note: runs that differ in {', '.join(others)} are drawn as seeds of one curve", err=True)
    drawn = [row | {"seed": str([row.get("seed"), *(row.get(name) for name in others)])} for row in found.rows]
    curves(
        drawn, plot, x=across, y=metric, label=hue, title=f"{metric.replace('_', ' ')} of {len(found.rows):,} results"
    )
    click.echo(f"drawn: {plot}", err=True)


def _text(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
