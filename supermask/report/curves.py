"""Curves with their spread over seeds: one column of a command's rows against another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, Unpack

import click
import numpy as np

from supermask.report.figure import drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
Points = dict[Any, list[tuple[float, float]]]
"""Seed -> its points (x, y), by x."""

COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Those of Okabe and Ito that show on white: colour-blind readers tell them apart."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
LINES = ("-", "--", "-.", (0, (1, 1)))
"""Markers and lines tell curves apart in greyscale; their numbers share no divisor, so pairs repeat late."""
INSIDE = 6
"""With more curves, the legend stands beside them."""
TICKS = 7
WORDS = {
    "alpha": "way from A to B",
    "density": "weights kept",
    "epochs": "epochs",
    "val_accuracy": "validation accuracy",
    "train_accuracy": "training accuracy",
}
"""Column -> what the field calls it; other columns are named as they are, `test_accuracy` as "test accuracy"."""
PERCENT = ("accuracy", "error", "density", "sparsity")
"""Fractions, shown in per cent, by the last word of the column's name."""


class Wanted(TypedDict):
    """What `curves` draws: the arguments that are given by name."""

    x: str
    y: str
    label: str
    title: str
    log_x: NotRequired[bool]
    chance: NotRequired[float | None]
    panel: NotRequired[str | None]


def curves(rows: Sequence[Row], path: Path, **wanted: Unpack[Wanted]) -> None:
    """Draw y against x, one curve for each value of a column: the mean over seeds, in a band from lowest to highest.

    Seeds that do not share their places on the x axis are drawn as thin curves of their own. Densities fall from left
    to right. Rows without a finite x and y, or without a logarithm of x where that is asked for, are left out, and
    stderr says how many.

    Args:
        rows: flat, as commands print them with --json, with a column `seed`.
        path: a PNG or SVG, by its ending.
        x, y: columns of numbers.
        label: column whose values tell the curves apart.
        title: of the picture.
        log_x: whether the x axis is logarithmic.
        chance: value of y for guesses, a dotted line; None for none.
        panel: column whose values have a panel each, side by side; None for one panel.

    Raises:
        UsageError: another ending, or no folder to write in.
        SupermaskError: matplotlib is missing.
    """
    chance, found = wanted.get("chance"), _grouped(rows, wanted)
    numbers = {name: i for i, name in enumerate(dict.fromkeys(name for own in found.values() for name in own))}
    every = [points for own in found.values() for points in own.values()]
    seeds, beside = {seed for points in every for seed in points}, len(numbers) > INSIDE
    places = sorted({x for points in every for own in points.values() for x, _ in own})
    width = (6.0 if len(found) == 1 else 4.5 * len(found)) + (2.2 if beside else 0)
    with drawn(path, width, max(3.8, 0.19 * len(numbers) + 0.6 if beside else 0)) as figure:
        panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for axes, (panel, curves_of) in zip(panels, found.items(), strict=True):
            for name, points in curves_of.items():
                _curve(axes, str(name), points, numbers[name])
            if chance is not None:
                axes.axhline(chance, color="0.4", linestyle=":", linewidth=1.2, label="chance")
            _axes(axes, wanted, places)
            if wanted.get("panel"):
                axes.set_title(str(panel), fontsize=9)
                axes.label_outer()
        _title(figure, panels, wanted["title"], len(seeds))
        if len(numbers) > 1 or chance is not None:
            place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)} if beside else {"loc": "best"}
            handles = {line.get_label(): line for axes in panels for line in axes.get_legend_handles_labels()[0]}
            panels[-1].legend(handles=list(handles.values()), frameon=False, **place)


def _title(figure: Figure, panels: Sequence[Axes], text: str, seeds: int) -> None:
    """Above the one panel, or above all of them."""
    if seeds > 1:
        text += f"\nmean of {seeds} seeds, shaded from lowest to highest"
    if len(panels) == 1:
        panels[0].set_title(text, loc="left", fontsize=9)
    else:
        figure.suptitle(text, x=0.01, ha="left", fontsize=9)


def _grouped(rows: Sequence[Row], wanted: Wanted) -> dict[Any, dict[Any, Points]]:
    """The points of each curve of each panel, in the order in which they first appear; one panel at least."""
    found: dict[Any, dict[Any, Points]] = {}
    log_x, left_out = wanted.get("log_x", False), 0
    for row in rows:
        place, value = row.get(wanted["x"]), row.get(wanted["y"])
        if place is None or value is None or not _fits(place, value, log_x):
            left_out += 1
            continue
        panel = found.setdefault(row.get(wanted.get("panel") or "", ""), {})
        own = panel.setdefault(row.get(wanted["label"], ""), {}).setdefault(row.get("seed", 0), [])
        own.append((float(place), float(value)))
    if left_out:
        log = " above 0" if log_x else ""
        what = f"a finite {wanted['y']} at a {wanted['x']}{log}"
        click.echo(f"note: {left_out} of {len(rows)} rows are not in the picture: they have not {what}", err=True)
    return {
        panel: {name: {seed: sorted(own) for seed, own in points.items()} for name, points in curves_of.items()}
        for panel, curves_of in (found or {"": {}}).items()
    }


def _fits(place: float, value: float, log_x: bool) -> bool:
    return math.isfinite(place) and math.isfinite(value) and (place > 0 or not log_x)


def _curve(axes: Axes, name: str, points: Points, number: int) -> None:
    look: dict[str, Any] = {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": LINES[number % len(LINES)],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 4,
    }
    seeds = list(points.values())
    places = [tuple(x for x, _ in own) for own in seeds]
    if len(set(places)) > 1 or len(set(places[0])) < len(places[0]):
        for i, own in enumerate(seeds):
            axes.plot(*zip(*own, strict=True), label=name if i == 0 else None, linewidth=0.8, **look)
        return
    values = np.array([[y for _, y in own] for own in seeds])
    axes.plot(places[0], values.mean(0), label=name, linewidth=1.4 if len(seeds) > 1 else 0.9, **look)
    if len(seeds) > 1:
        axes.fill_between(places[0], values.min(0), values.max(0), color=look["color"], alpha=0.15, linewidth=0)


def _axes(axes: Axes, wanted: Wanted, places: Sequence[float]) -> None:
    """Name the axes, in per cent where they show fractions, and turn and mark an axis of densities."""
    from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

    log = wanted.get("log_x", False)
    if log:
        axes.set_xscale("log")
    for axis, column in ((axes.xaxis, wanted["x"]), (axes.yaxis, wanted["y"])):
        is_fraction = column.rsplit("_", 1)[-1] in PERCENT
        axis.set_label_text(WORDS.get(column, column.replace("_", " ")) + (" (%)" if is_fraction else ""))
        if is_fraction:
            axis.set_major_formatter(PercentFormatter(1, symbol=None))
    if wanted["x"].rsplit("_", 1)[-1] == "density":
        axes.set_xticks(ticks(places, log))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: short(100 * place)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.invert_xaxis()


def ticks(places: Iterable[float], log: bool) -> list[float]:
    """Some of the places, from the highest, far enough from each other that their labels do not touch."""
    falling = sorted(set(places), reverse=True)
    where = [math.log(place) if log else place for place in falling]
    found: list[int] = []
    for i, here in enumerate(where):
        if not found or where[found[-1]] - here >= (where[0] - where[-1]) / TICKS:
            found.append(i)
    return [falling[i] for i in found]


def short(number: float) -> str:
    """Two digits, or all those before the point: 100, 41, 6.9, 0.47."""
    return f"{number:.0f}" if abs(number) >= 9.95 else f"{number:.2g}"
