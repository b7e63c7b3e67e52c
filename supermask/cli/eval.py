"""supermask eval: measures the accuracy of a ticket."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from supermask.cli import _options as opt
from supermask.config.words import CONTROLS, SPLITS
from supermask.runtime.devices import choose_device, require_device
from supermask.runtime.numerics import fixed_numerics

if TYPE_CHECKING:
    from supermask.experiments.evaluate import Evaluation


@click.command()
@click.argument("ticket", type=opt.PATH)
@opt.option(
    "--split",
    type=opt.Names(SPLITS),
    default="test",
    show_default=True,
    help="Examples to score on.",
)
@opt.option("--samples", type=int, default=10, show_default=True, help="Number of draws of a sampled mask.")
@opt.option("--control", type=opt.Names(CONTROLS), help="Sanity check: replace the mask or the weights first.")
@opt.option(
    "--dataset",
    help="Where the data lies now, or other data that fits.  [default: the dataset in TICKET]",
    group="data",
)
@opt.data_dir_option
@opt.device_option
@opt.quiet_option
@opt.json_option
def command(
    ticket: Path,
    split: str,
    samples: int,
    control: str | None,
    dataset: str | None,
    data_dir: Path | None,
    device: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Print accuracy, loss and density per layer of TICKET, or of trained weights, on a split of its dataset.

    First checks that the data is that of the search, and that the recorded validation accuracy is reproduced. On other
    data, which --dataset names, there is nothing to reproduce.
    """
    from supermask.runs.results import load_result

    loaded = load_result(ticket)
    choose_device(device)
    require_device(device)
    from supermask.experiments.evaluate import evaluate

    with fixed_numerics(opt.printer(quiet)):
        found = evaluate(loaded, split=split, samples=samples, control=control, data_dir=data_dir, dataset=dataset)
    for note in found.notes:
        click.echo(note, err=True)
    if not found.other_data and not (found.reproduced and quiet):
        click.echo(_reproduction(found), err=True)
    if found.floor:
        from supermask.experiments.floors import said

        click.echo(f"floors of {found.split}: {said(found.floor)}", err=True)
    for text in found.warnings:
        click.echo(f"warning: {text}", err=True)
    if as_json:
        opt.print_json(_as_dict(ticket, found))
    else:
        _print(found)


def _reproduction(found: Evaluation) -> str:
    if found.reproduced:
        return f"validation accuracy {found.val_accuracy:.4f} reproduced"
    return (
        f"warning: the ticket's validation accuracy {found.recorded_val_accuracy:.4f} is not reproduced: it is "
        f"{found.val_accuracy:.4f} here (another dataset version, device or JAX version?)"
    )


def _as_dict(path: Path, found: Evaluation) -> dict[str, object]:
    keys = ["dataset", "split", "examples", "accuracy", "loss", "density", "layers"]
    keys += [key for key in ("control", "other_data", "floor") if getattr(found, key)]
    keys += ["sequence_accuracy"] if found.sequence_accuracy is not None else []
    if found.samples > 1:
        keys += ["accuracy_std", "samples"]
    keys.append("warnings")
    return {"ticket": str(path), **{key: getattr(found, key) for key in keys}}


def _print(found: Evaluation) -> None:
    from supermask.cli._tables import layer_table

    spread = f" +- {found.accuracy_std:.4f} over {found.samples} draws" if found.samples > 1 else ""
    what = f"{found.dataset} {found.split}, {found.examples:,} {found.noun}"
    what += f", {found.control}" if found.control else ""
    whole = "" if found.sequence_accuracy is None else f", whole answers {found.sequence_accuracy:.4f}"
    click.echo(f"{what}: accuracy {found.accuracy:.4f}{spread}{whole}, loss {found.loss:.4f}")
    click.echo(layer_table(found.layers))
