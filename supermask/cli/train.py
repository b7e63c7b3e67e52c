"""supermask train: trains the weights themselves."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supermask.cli import _options as opt
from supermask.cli._experiment import Call, run, run_options
from supermask.cli._help import GroupedCommand
from supermask.cli._hosts import hosts_options
from supermask.config import TrainConfig
from supermask.config.words import OF_TICKET
from supermask.errors import UsageError
from supermask.experiments.options import RunResult

if TYPE_CHECKING:
    from supermask.experiments.run import Experiment
    from supermask.runtime.team import Hosts

EPILOG = """\b
Examples:
  supermask train --arch lenet300 --dataset mnist --epochs 5 --seeds 3
  supermask train --ticket runs/NAME/ticket-s0.safetensors
  supermask train --arch mypkg.nets:MyNet -a hidden=64 --json | jq .val_accuracy"""


@click.command(cls=GroupedCommand, epilog=EPILOG)
@partial(opt.config_options, kind=TrainConfig)
@opt.arch_option
@opt.option(
    "--ticket",
    type=opt.PATH,
    help="Train from this ticket's weights, under its mask, with its network and data.",
    group="method",
)
@opt.recipe_option
@hosts_options
@run_options
@click.pass_context
def command(
    ctx: click.Context,
    call: Call,
    arch_pairs: tuple[str, ...],
    ticket: Path | None,
    recipe: str | None,
    hosts: Hosts | None,
    **values: Any,
) -> None:
    """Train the weights of a network, dense or under a ticket's mask.

    Writes a run folder and prints one result per seed. Calling it again prints the result of the finished run, or
    continues where the training was stopped.
    """
    arch_options = opt.parse_options(arch_pairs, "-a")
    base = opt.base_of(recipe, call.resume, TrainConfig)
    if call.resume and ticket:
        raise UsageError("--resume takes the ticket from the run: leave out --ticket")

    def read(file: Path | None) -> TrainConfig:
        given = opt.given(arch_options=arch_options or None)
        if ticket is None:
            return opt.read_config(ctx, base, file, values, given, TrainConfig)
        if "init" in opt.typed(ctx):
            raise UsageError("--ticket brings its own weights, so --init has no say: leave it out")
        typed = opt.typed(ctx) - {"ticket"}
        of_ticket = {key: value for key, value in _of_ticket(ticket).items() if key not in typed}
        return opt.read_config(ctx, base, file, values, of_ticket | given, TrainConfig)

    def show(result: RunResult) -> None:
        from supermask.experiments.floors import beside

        for row in result.rows:
            if call.as_json:
                opt.print_json(row)
            else:
                click.echo(
                    f"{row['weights']}  val {row['val_accuracy']:.4f}  train {row['train_accuracy']:.4f}  "
                    f"density {row['density']:.4f}  epochs {row['epochs']}  {row['weights_bytes']:,} bytes"
                    + beside(row.get("floor", {}))
                )

    run(_train, call, ctx, read, show, hosts)


def _of_ticket(path: Path) -> dict[str, Any]:
    """Return the fields of the config that a ticket sets: its network and its data."""
    from supermask.ticket import Ticket

    found = TrainConfig.under(path, Ticket.load(path).config)
    return {name: getattr(found, name) for name in (*OF_TICKET, "ticket")}


def _train() -> Experiment:
    from supermask.experiments.train import Train

    return Train()
