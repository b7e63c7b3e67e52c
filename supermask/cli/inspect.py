"""supermask inspect: shows what is inside a ticket."""

from __future__ import annotations

from pathlib import Path

import click

from supermask.cli import _options as opt


@click.command()
@click.argument("ticket", type=opt.PATH)
@opt.json_option
def command(ticket: Path, as_json: bool) -> None:
    """Show what is inside TICKET: its layers, and the parameters that are not masked.

    Needs neither the dataset nor JAX.
    """
    from supermask.cli._tables import layer_table, parameter_table, table
    from supermask.experiments.warnings import of_ticket
    from supermask.ticket import Ticket
    from supermask.weights.parameters import rows_of

    found = Ticket.load(ticket)
    warnings = of_ticket(found)
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
                "bits_per_parameter": found.bits_per_parameter,
                "config": config,
                "image_shape": list(found.image_shape),
                "metrics": found.metrics,
                "layers": found.layers(),
                "parameters": rows_of(found.parameters, found.own, found.config.init or "given"),
                "versions": found.versions,
                "warnings": warnings,
            }
        )
        return
    dense = sum(row["total"] for row in found.layers()) * 4
    held = ", and it holds all weights" if found.embedded else ""
    facts = {
        "mask": found.kind,
        "density": f"{found.density:.4f} kept, {1 - found.density:.4f} removed",
        "ideal code": f"{found.bits_per_parameter:.4f} bits per parameter",
        "size": f"{ticket.stat().st_size:,} bytes; its maskable weights in float32 are {dense:,}{held}",
        **{key: f"{value:.4f}" if isinstance(value, float) else str(value) for key, value in found.metrics.items()},
        **{key: str(value) for key, value in config.items() if key not in ("density", "epochs")},
        "made by": ", ".join(f"{name} {version}" for name, version in sorted(found.versions.items())),
    }
    click.echo(table([[key.replace("_", " "), value] for key, value in facts.items()]))
    click.echo()
    click.echo(layer_table(found.layers()))
    rest = [row for row in rows_of(found.parameters, found.own, found.config.init or "given") if not row["masked"]]
    if rest:
        click.echo(f"\n{parameter_table(rest)}")
