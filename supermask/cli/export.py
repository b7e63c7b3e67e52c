"""supermask export: writes a ticket for other programs."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import click

from supermask.cli import _options as opt
from supermask.errors import BadFileError, UsageError

if TYPE_CHECKING:
    from supermask.ticket import Ticket
    from supermask.weights.trained import TrainedWeights

EPILOG = """\b
Examples:
  supermask export TICKET --format torch -o conv4.safetensors
  supermask export TICKET --format mask"""


@click.command(epilog=EPILOG)
@click.argument("ticket", type=opt.PATH)
@opt.option(
    "-f", "--format", "format_name", default="npz", show_default=True, help="A name from `supermask list exporters`."
)
@opt.option("-o", "--output", type=opt.PATH, help="File to write.  [default: beside TICKET, named by the format]")
@opt.option(
    "--flattened",
    metavar="NAME",
    help="For torch: the kernel that sees the flattened image, or none.  [default: known]",
)
@opt.option("--force", is_flag=True, help="Overwrite an existing file.")
@opt.json_option
def command(
    ticket: Path, format_name: str, output: Path | None, flattened: str | None, force: bool, as_json: bool
) -> None:
    """Write the effective weights or the mask of TICKET, or of trained weights, in another format."""
    from supermask import registry
    from supermask.runs.results import load_result
    from supermask.storage.atomic import write_atomic

    exporter = registry.load("exporters", format_name)
    loaded = load_result(ticket)
    path = output or ticket.with_name(ticket.stem + exporter.SUFFIX)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give -o the name of a file")
    if path.exists() and path.samefile(ticket):
        raise UsageError(f"{path} is the ticket itself; give -o another name")
    if path.exists() and not force:
        raise UsageError(f"{path} exists; --force overwrites it")
    words = {"flattened": flattened} if flattened is not None else {}
    if words and "flattened" not in inspect.signature(exporter.encode).parameters:
        raise UsageError(f"--flattened is not for {format_name}: it keeps the order of all layers")
    _check_code(loaded, ticket)
    data = exporter.encode(loaded, **words)
    write_atomic(path, data)
    if as_json:
        opt.print_json({"ticket": str(ticket), "format": format_name, "path": str(path), "bytes": len(data)})
    else:
        click.echo(f"{path}  {len(data):,} bytes")


def _check_code(found: Ticket | TrainedWeights, path: Path) -> None:
    """Refuse a ticket whose effective weights are computed by a method of the user's own that has changed."""
    from supermask import registry
    from supermask.runs import code
    from supermask.ticket import Ticket

    if not (isinstance(found, Ticket) and found.transforms and registry.is_own("methods", found.config.method)):
        return
    there = found.content.get("method code")
    if there and there != code.fingerprint(found.config.method):
        raise BadFileError(
            f"{path} was made by other code (method code differs), and {found.config.method} computes its effective "
            "weights: put the code back, or search again"
        )
