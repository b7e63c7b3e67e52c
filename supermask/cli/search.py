"""supermask search: find a mask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from supermask.cli import _options as opt
from supermask.cli._help import GroupedCommand
from supermask.cli._pace import pace, pace_options, seconds
from supermask.cli._searching import own_folder, resolved, search_in
from supermask.cli._trackers import HELP, Trackers, tracker_options
from supermask.config import SearchConfig
from supermask.errors import UsageError
from supermask.resolve import facts_of
from supermask.runtime.stopping import Stopping

EPILOG = """\b
Examples:
  supermask search --arch conv4
  supermask search --arch lenet300 --dataset mnist --density 0.3 --seeds 3
  supermask search --method sigmoid -o hard=continuous
  supermask search --json | jq .val_accuracy
  supermask search --config runs/NAME/config.json --seed 7
  supermask search --recipe ramanujan2020-conv4 --epochs 3"""


@click.command(cls=GroupedCommand, epilog=EPILOG)
@opt.config_options
@opt.method_option
@opt.option("--sparsity", type=float, help="Fraction of maskable weights removed: 1 - density.", group="method")
@opt.topk_options
@opt.option("--clients", type=int, help="fedpm: simulate this many clients and a server.", group="method")
@opt.option(
    "--recipe", metavar="NAME", help="Take defaults from a published configuration of `supermask list recipes`."
)
@opt.option("--config", "config_file", type=opt.PATH, help="Take defaults from this config.json of a run.")
@opt.option("--resume", type=opt.PATH, metavar="RUN", help="Go on with this run folder: its config, its checkpoint.")
@pace_options
@tracker_options
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
    recipe: str | None,
    config_file: Path | None,
    resume: Path | None,
    checkpoint_every: str,
    time_limit: str | None,
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

    The same call again answers with the finished run's result, or goes on from where the search was stopped.
    """
    options = opt.parse_options(pairs) | opt.given(
        allocation=allocation, layer_density=",".join(layer_density), pattern=pattern, clients=clients
    )
    if resume is not None:
        if out or config_file or recipe:
            raise UsageError("--resume takes config and folder from the run: leave out --out, --config and --recipe")
        if resume.is_file():
            raise UsageError(f"--resume takes a run folder, and {resume} is a file: give {resume.parent}")
        resume = resume if resume.name not in ("", "..") else resume.resolve()
        config_file, out = _config_of(resume), resume
    every, limit = pace(checkpoint_every), seconds("time-limit", time_limit) if time_limit else None
    trackers = Trackers({name: values.pop(name) for name in HELP})
    with Stopping(limit) as stopping:
        config = opt.read_config(ctx, values, config_file, _translated(ctx, options, sparsity), recipe)
        opt.choose_device(device, config.devices)
        if dry_run:
            indent = None if as_json else 2
            click.echo(json.dumps(resolved(config, device).to_dict(), indent=indent, sort_keys=True))
            return
        path = out or _own_run(ctx, config, config_file) or _own_folder(ctx, runs_dir, config)
        if path.is_symlink():
            path = path.resolve()  # what it points to is filled, and it stays
        if not quiet:
            _note(ctx, config)
        results, stopped, known = search_in(
            *(path, config, device, stopping, every, trackers),
            data_dir=data_dir,
            quiet=quiet,
            force=force,
            embed_weights=embed_weights,
        )
        show([_embedded(row) for row in results] if known and embed_weights else results, as_json)
    if stopped:
        raise stopped


def _own_run(ctx: click.Context, config: SearchConfig, config_file: Path | None) -> Path | None:
    """The run whose config.json is given, if nothing else was asked for."""
    if config_file is None or "runs_dir" in opt.typed(ctx) or not (config_file.parent / "result.json").is_file():
        return None
    from supermask.runs.index import read_config

    return config_file.parent if SearchConfig.from_dict(read_config(config_file)) == config else None


def _own_folder(ctx: click.Context, runs_dir: Path, config: SearchConfig) -> Path:
    """A run's config.json names its devices; only who types a number of them gets a folder of its own for it."""
    return own_folder(runs_dir, config if "devices" in opt.typed(ctx) else config.replace(devices=None))


def _note(ctx: click.Context, config: SearchConfig) -> None:
    """What was asked for and means nothing to the method."""
    facts = facts_of(config.method)
    if config.epochs and not facts.learned:
        click.echo(f"note: {config.method} is not trained, so there are no epochs", err=True)
    if opt.typed(ctx) & {"density", "sparsity"} and not facts.keeps_density:
        click.echo(f"note: {config.method} enforces no density; it is at most where the mask starts", err=True)


def _config_of(path: Path) -> Path:
    """The config.json of a run folder, or of the hidden one that a killed process left in its place."""
    from supermask.runs.index import hidden_path

    there, hidden = path / "config.json", hidden_path(path) / "config.json"
    return hidden if hidden.is_file() and not there.is_file() else there


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


def _embedded(row: dict[str, Any]) -> dict[str, Any]:
    """The result of a finished run, its ticket now with the weights in it."""
    from supermask.ticket import Ticket

    ticket = Ticket.load(row["ticket"])
    if ticket.embedded is None:
        ticket.embed_weights().save(row["ticket"])
    return row | {"ticket_bytes": Path(row["ticket"]).stat().st_size}


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
