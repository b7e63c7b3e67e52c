"""supermask connect: loss and accuracy along the line between trained networks."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supermask.cli import _options as opt
from supermask.cli._plot import plot_option
from supermask.config.words import SPLITS
from supermask.errors import BadFileError, UsageError
from supermask.runtime.devices import choose_device, require_device
from supermask.runtime.numerics import fixed_numerics

if TYPE_CHECKING:
    from supermask.experiments.connect import Connection
    from supermask.weights.trained import TrainedWeights


@click.command()
@click.argument("files", type=opt.PATH, nargs=-1, required=True, metavar="A B | RUN")
@opt.option("--points", type=int, default=11, show_default=True, help="Number of points on the line, ends included.")
@opt.option("--split", type=opt.Names(SPLITS), default="validation", show_default=True, help="Images to score on.")
@opt.option("--effective", is_flag=True, help="Join the effective weights of networks under different masks.")
@opt.option("--dataset", help="Where the data lies now.  [default: the dataset in A]", group="data")
@opt.data_dir_option
@opt.device_option
@plot_option("Draw the error along the line.")
@opt.quiet_option
@opt.json_option
def command(
    files: tuple[Path, ...],
    points: int,
    split: str,
    effective: bool,
    dataset: str | None,
    data_dir: Path | None,
    device: str,
    plot: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Print loss and accuracy along the line between the weights A and B of `supermask train`, and the barrier.

    A and B are files of trained weights, or run folders of one seed each. Of RUN alone, with two seeds or more, all
    pairs are joined.
    """
    pairs = _pairs(files)
    choose_device(device)
    require_device(device)
    from supermask.experiments.connect import connect

    rows: list[dict[str, Any]] = []
    for a, b in pairs:
        with fixed_numerics(opt.printer(quiet)):
            found = connect(a, b, points=points, split=split, effective=effective, data_dir=data_dir, dataset=dataset)
        for note in found.notes:
            click.echo(note, err=True)
        ends = {"a": str(a.path), "b": str(b.path), "split": split}
        curve = {"pair": f"{_name(a)} to {_name(b)}", "seed": a.config.seed}
        rows += [{**curve, **point} for point in found.points]
        _show(found, ends, as_json)
    if plot is not None:
        from supermask.report.curves import curves

        title = f"From A to B, {pairs[0][0].config.arch}, error on {split}"
        curves(rows, plot, x="alpha", y="error", label="pair", title=title)


def _show(found: Connection, ends: dict[str, str], as_json: bool) -> None:
    from supermask.cli._tables import table

    if as_json:
        for point in found.points:
            opt.print_json({**ends, **point})
        keys = ("error_barrier", "loss_barrier", "stable")
        opt.print_json({**ends, "points": len(found.points), **{key: getattr(found, key) for key in keys}})
        return
    cells = [["alpha", "loss", "accuracy", "error"]]
    for point in found.points:
        cells.append([f"{point['alpha']:.2f}", *(f"{point[key]:.4f}" for key in cells[0][1:])])
    click.echo(f"{ends['a']} to {ends['b']}, {found.split}")
    click.echo(table(cells, right={0, 1, 2, 3}))
    what = "stable: below" if found.stable else "not stable: not below"
    click.echo(
        f"barrier: {100 * found.error_barrier:.2f} points of error, {found.loss_barrier:.4f} of loss ({what} 2 points)"
    )


def _pairs(files: tuple[Path, ...]) -> list[tuple[TrainedWeights, TrainedWeights]]:
    from supermask.config.files import result_file
    from supermask.runs.results import Run, load_result
    from supermask.weights.trained import TrainedWeights

    if len(files) > 2:
        raise UsageError(f"{len(files)} paths are given; give two, A and B, or one run of several seeds")
    if len(files) == 1:
        if not files[0].exists():
            raise BadFileError(f"{files[0]} does not exist; it should be a run folder of `supermask train`")
        found = Run.open(files[0]).weights if files[0].is_dir() else []
        if len(found) < 2:
            holds = f"holds {len(found)} trained networks" if files[0].is_dir() else "is one file"
            raise UsageError(f"{files[0]} {holds}; a line needs two: give A and B, or a run of several seeds")
        return list(combinations(found, 2))
    what = "a weights file, or the run folder, of `supermask train`"
    ends = [load_result(result_file(path, what), what) for path in files]
    for path, end in zip(files, ends, strict=True):
        if not isinstance(end, TrainedWeights):
            raise BadFileError(f"{path} is a ticket; a line joins trained weights of `supermask train`")
    [a, b] = [end for end in ends if isinstance(end, TrainedWeights)]
    return [(a, b)]


def _name(found: TrainedWeights) -> str:
    path = found.path or Path("weights")
    return f"{path.parent.name}/{path.stem}"
