"""supermask search: find a mask."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from supermask.cli import _options as opt
from supermask.cli._progress import Silent, reporter, rows
from supermask.config import SearchConfig
from supermask.errors import InterruptionError, UsageError

if TYPE_CHECKING:
    from supermask.build import Parts
    from supermask.loop import Outcome
    from supermask.run import RunFolder

EPILOG = """\b
Examples:
  supermask search --arch conv4
  supermask search --arch lenet300 --dataset mnist --density 0.3 --epochs 5 --seeds 3
  supermask search --method sigmoid -o hard=continuous --json | jq .val_accuracy
  supermask search --config runs/NAME/config.json --seed 7"""


@click.command(epilog=EPILOG)
@opt.config_options
@opt.method_option
@opt.option("--sparsity", type=float, help="Fraction of maskable weights removed: 1 - density.")
@opt.topk_options
@opt.option("--clients", type=int, help="fedpm: simulate this many clients and a server.")
@opt.option("--config", "config_file", type=opt.PATH, help="Take defaults from this config.json of a run.")
@opt.option("--out", type=opt.PATH, help="Run folder.  [default: a name of its own in --runs-dir]")
@opt.option("--runs-dir", type=opt.PATH, default=Path("runs"), show_default=True, help="Where run folders go.")
@opt.data_dir_option
@opt.device_option
@opt.option("--embed-weights", is_flag=True, help="Put the frozen weights into the ticket, 4 bytes each.")
@opt.option("--dry-run", is_flag=True, help="Print the resolved config and stop.")
@opt.option("--force", is_flag=True, help="Search anew, whatever the run folder holds.")
@opt.quiet_option
@opt.json_option
@click.pass_context
def command(
    ctx: click.Context,
    pairs: tuple[str, ...],
    sparsity: float | None,
    allocation: str | None,
    layer_density: tuple[str, ...],
    pattern: str | None,
    clients: int | None,
    config_file: Path | None,
    out: Path | None,
    runs_dir: Path,
    data_dir: Path | None,
    device: str,
    embed_weights: bool,
    dry_run: bool,
    force: bool,
    quiet: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Find a mask over frozen random weights; write a run folder, print one result per seed.

    The same call again answers with the finished run's result.
    """
    options = opt.parse_options(pairs) | opt.given(
        allocation=allocation, layer_density=",".join(layer_density), pattern=pattern, clients=clients
    )
    config = opt.read_config(ctx, values, config_file, _translated(ctx, options, sparsity))
    opt.choose_device(device, config.devices)
    from supermask.build import build, resolve
    from supermask.run import default_path, finished, open_run

    resolved = resolve(config)
    if dry_run:
        click.echo(json.dumps(resolved.to_dict(), indent=2, sort_keys=True))
        return
    defaults = resolve(SearchConfig(arch=config.arch, dataset=config.dataset, method=config.method))
    if not quiet and config.epochs and not resolved.epochs:
        click.echo(f"note: {resolved.method} is not trained, so there are no epochs", err=True)
    path = out or default_path(runs_dir, resolved, defaults)
    results = None if force else finished(path, resolved)
    if results is not None:
        if not quiet:
            click.echo(f"{path} is finished; this is its result (--force searches anew)", err=True)
        show([_embedded(row) for row in results] if embed_weights else results, as_json)
        return
    with open_run(path, resolved, force=force) as folder:
        with reporter(quiet, int(resolved.epochs or 0)) as progress, _ctrl_c() as pressed:
            parts = build(resolved, data_dir)
            progress.note(f"{resolved.method} on {resolved.dataset}, {resolved.arch}: run folder {path}")
            results = _fill(folder, parts, progress, pressed, embed_weights)
        if not results:
            raise InterruptionError("interrupted before the first epoch ended; nothing was written")
        folder.close(results, complete=not pressed)
    show(results, as_json)
    if pressed:
        raise InterruptionError(f"interrupted; the best ticket so far is {results[-1]['ticket']}")


def _translated(ctx: click.Context, options: dict[str, Any], sparsity: float | None) -> dict[str, Any]:
    """Options that stand for fields of the config."""
    extra: dict[str, Any] = {"options": options} if options else {}
    if sparsity is not None:
        mine, other = (ctx.get_parameter_source(name) for name in ("sparsity", "density"))
        if mine == other:
            raise UsageError("--density and --sparsity say the same thing (density = 1 - sparsity); give one of them")
        if other == ParameterSource.COMMANDLINE:
            return extra  # what was typed goes before what the environment says
        if not 0 <= sparsity < 1:
            raise UsageError(f"sparsity is {sparsity}; it must be at least 0 and below 1")
        extra["density"] = round(1 - sparsity, 12)
    return extra


def _fill(
    folder: RunFolder, parts: Parts, progress: Silent, pressed: list[int], embed_weights: bool
) -> list[dict[str, Any]]:
    """Search, writing metrics and tickets as they come; one result per seed."""
    from supermask.loop import Observer, outcomes

    def epoch(metrics: Any) -> None:
        progress.epoch(metrics)
        for row in rows(metrics):
            folder.add_metrics(row)

    results = []
    for outcome in outcomes(parts, Observer(epoch=epoch, steps=progress.steps, stop=lambda: bool(pressed))):
        progress.note(
            f"seed {outcome.ticket.config.seed}: {outcome.compile_seconds:.1f} s compiling, "
            f"{outcome.train_seconds:.1f} s searching"
        )
        ticket = outcome.ticket.embed_weights() if embed_weights else outcome.ticket
        path = folder.add_ticket(ticket)
        results.append(_result(outcome, folder.path, path, len(ticket.to_bytes())))
    return results


def _embedded(row: dict[str, Any]) -> dict[str, Any]:
    """The result of a finished run, its ticket now with the weights in it."""
    from supermask.ticket import Ticket

    ticket = Ticket.load(row["ticket"])
    if ticket.embedded is None:
        ticket.embed_weights().save(row["ticket"])
    return row | {"ticket_bytes": Path(row["ticket"]).stat().st_size}


def _result(outcome: Outcome, run: Path, path: Path, size: int) -> dict[str, Any]:
    ticket = outcome.ticket
    named = {item.name: getattr(ticket.config, item.name) for item in fields(SearchConfig)}
    return {
        "ticket": str(path),
        "run": str(run),
        **{key: named[key] for key in ("arch", "dataset", "method", "init", "seed")},
        "density": ticket.density,
        **{key: ticket.metrics[key] for key in ("epochs", "loss", "train_accuracy", "val_accuracy")},
        "images_per_second": outcome.images_per_second,
        "compile_seconds": outcome.compile_seconds,
        "train_seconds": outcome.train_seconds,
        "ticket_bytes": size,
        "bits_per_parameter": ticket.bits_per_parameter,
        "device": outcome.device,
    }


def show(results: list[dict[str, Any]], as_json: bool) -> None:
    """One line per seed on stdout."""
    for row in results:
        if as_json:
            opt.print_json(row)
        else:
            click.echo(
                f"{row['ticket']}  val {row['val_accuracy']:.4f}  train {row['train_accuracy']:.4f}  "
                f"density {row['density']:.4f}  epochs {row['epochs']}  {row['ticket_bytes']:,} bytes"
            )


@contextmanager
def _ctrl_c() -> Iterator[list[int]]:
    """A list that holds the signal once Ctrl-C was pressed; a second press interrupts at once."""
    pressed: list[int] = []

    def note(number: int, frame: object) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    old = signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, old)
