"""supermask inspect: shows what is inside a ticket, or a file of trained weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from supermask.cli import _options as opt
from supermask.cli._plot import plot_option
from supermask.config.advice import fitting

if TYPE_CHECKING:
    from supermask.ticket import Ticket
    from supermask.weights.trained import TrainedWeights


@click.command()
@click.argument("ticket", type=opt.PATH)
@plot_option("Draw the first layer's mask: the weights that it keeps of each pixel, or its kernels.")
@opt.json_option
def command(ticket: Path, plot: Path | None, as_json: bool) -> None:
    """Show what is inside TICKET, or trained weights: layers, and the parameters that are not masked.

    Needs neither the dataset nor JAX.
    """
    from supermask.cli._tables import layer_table, parameter_table, table
    from supermask.experiments.warnings import of_mask, of_ticket
    from supermask.runs.results import load_result
    from supermask.ticket import Ticket
    from supermask.weights.parameters import rows_of

    found = load_result(ticket)
    held, code = ", and it holds all weights", {}
    own = found.own if isinstance(found, Ticket) else found.weights
    if isinstance(found, Ticket):
        held, code = held if found.embedded else "", {"bits_per_parameter": found.bits_per_parameter}
    warnings = of_ticket(found) if isinstance(found, Ticket) else of_mask(found.mask)
    warnings = [fitting(text, found.config) for text in warnings]
    rows = rows_of(found.parameters, own, found.config.init or "given")
    if plot is not None:
        _draw(found, ticket, plot)
    for text in warnings:
        click.echo(f"warning: {text}", err=True)
    config = {key: value for key, value in found.config.to_dict().items() if value not in (None, {})}
    if as_json:
        opt.print_json(
            {
                "ticket": str(ticket),
                "bytes": ticket.stat().st_size,
                "mask": found.kind,
                "density": found.density,
                **code,
                "config": config,
                "image_shape": list(found.image_shape),
                "metrics": found.metrics,
                "layers": found.layers(),
                "parameters": rows,
                "versions": found.versions,
                "warnings": warnings,
            }
        )
        return
    dense = sum(row["total"] for row in found.layers()) * 4
    facts = {
        "mask": found.kind,
        "density": f"{found.density:.4f} kept, {1 - found.density:.4f} removed",
        **({"ideal code": f"{code['bits_per_parameter']:.4f} bits per parameter"} if code else {}),
        "size": f"{ticket.stat().st_size:,} bytes; its maskable weights in float32 are {dense:,}{held}",
        **{key: f"{value:.4f}" if isinstance(value, float) else str(value) for key, value in found.metrics.items()},
        **{key: str(value) for key, value in config.items() if key not in ("density", "epochs")},
        "made by": ", ".join(f"{name} {version}" for name, version in sorted(found.versions.items())),
    }
    click.echo(table([[key.replace("_", " "), value] for key, value in facts.items()]))
    click.echo()
    click.echo(layer_table(found.layers()))
    rest = [row for row in rows if not row["masked"]]
    if rest:
        click.echo(f"\n{parameter_table(rest)}")


def _draw(found: Ticket | TrainedWeights, path: Path, picture: Path) -> None:
    from supermask.report.images import first_layer, mask_image

    name, note = first_layer(found.mask, found.image_shape, str(path))
    if note:
        click.echo(note, err=True)
    mask_image(found.mask[name], found.image_shape, picture, f"{name} of {path.name}, density {found.density:.3g}")
