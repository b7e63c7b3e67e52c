"""supermask search: finds a mask."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from supermask.cli import _options as opt
from supermask.cli._experiment import Call, run, run_options
from supermask.cli._help import GroupedCommand
from supermask.cli._hosts import hosts_options
from supermask.cli._topk import topk_given, topk_options
from supermask.config import SearchConfig
from supermask.config.words import OF_WITHIN
from supermask.errors import UsageError
from supermask.experiments.options import RunResult
from supermask.resolve import facts_of

if TYPE_CHECKING:
    from supermask.experiments.run import Experiment
    from supermask.runtime.team import Hosts

EPILOG = """\b
Examples:
  supermask search --arch conv4
  supermask search --arch lenet300 --dataset mnist --density 0.3 --seeds 3
  supermask search --method sigmoid -o hard=continuous
  supermask search --json | jq .val_accuracy
  supermask search --config runs/NAME/config.json --seed 7
  supermask search --recipe ramanujan2020-conv4 --epochs 3
  supermask search --arch lenet300 --weights FILE --method piggyback
  supermask search --within runs/NAME/ticket-s0.safetensors --density 0.1"""


@click.command(cls=GroupedCommand, epilog=EPILOG)
@opt.config_options
@opt.arch_option
@opt.method_option
@opt.option(
    "--weights",
    type=opt.PATH,
    metavar="FILE|RUN|TICKET",
    help="Freeze these weights in place of random ones: safetensors (a PyTorch state_dict too) or npz, a run folder, "
    "or the weights of a ticket without its mask. Tickets hold them.",
    group="network",
)
@opt.option(
    "--within",
    type=opt.PATH,
    metavar="TICKET",
    help="Keep only weights that this ticket keeps. Network, data, weights and seed are the ticket's unless given; "
    "--density is still of all maskable weights, so at most the ticket's.",
    group="method",
)
@opt.option("--sparsity", type=float, help="Fraction of maskable weights removed: 1 - density.", group="method")
@topk_options
@opt.option("--clients", type=int, help="fedpm: simulate this many clients and a server.", group="method")
@opt.recipe_option
@hosts_options
@run_options
@opt.option("--embed-weights", is_flag=True, help="Store the frozen weights in the ticket, 4 bytes each.")
@click.pass_context
def command(
    ctx: click.Context,
    call: Call,
    pairs: tuple[str, ...],
    arch_pairs: tuple[str, ...],
    weights: Path | None,
    within: Path | None,
    sparsity: float | None,
    clients: int | None,
    recipe: str | None,
    embed_weights: bool,
    hosts: Hosts | None,
    **values: Any,
) -> None:
    """Find a mask over frozen random weights, write a run folder, and print one result per seed.

    Calling it again prints the result of the finished run, or continues where the search was stopped.
    """
    options = opt.parse_options(pairs) | topk_given(values) | opt.given(clients=clients)
    arch_options = opt.parse_options(arch_pairs, "-a")
    base = opt.base_of(recipe, call.resume, SearchConfig)
    if call.resume:
        for name, value in {"weights": weights, "within": within}.items():
            if value:
                raise UsageError(f"--resume takes config and folder from the run: leave out --{name}")

    def read(file: Path | None) -> SearchConfig:
        extra = opt.given(options=options or None, arch_options=arch_options or None) | _density(ctx, sparsity)
        extra = _files(opt.typed(ctx), weights, within) | extra
        config = opt.read_config(ctx, base, file, values, extra, SearchConfig)
        if not call.dry_run:
            _note(ctx, config, call)
        return config

    def show(result: RunResult) -> None:
        again = result.known and embed_weights
        show_tickets([_embedded(row) for row in result.rows] if again else result.rows, call.as_json)

    run(_search, call, ctx, read, show, hosts, embed_weights=embed_weights)


def _search() -> Experiment:
    from supermask.experiments.search import Search

    return Search()


def _note(ctx: click.Context, config: SearchConfig, call: Call) -> None:
    """Note options that were given but have no effect with this method."""
    facts = facts_of(config.method)
    if config.epochs and not (facts.learned or config.train):
        call.note(f"note: {config.method} is not trained, so there are no epochs")
    controls = config.options.get("control", "none") != "none"
    if opt.typed(ctx) & {"density", "sparsity"} and not (facts.keeps_density or controls):
        hint = " (-o control=lagrangian makes it a target)" if "control" in facts.options else ""
        call.note(f"note: {config.method} does not enforce a density; it is at most the density at the start{hint}")


def _files(typed: set[str], weights: Path | None, within: Path | None) -> dict[str, Any]:
    """Return the fields of the config that --weights and --within set; what is typed overrides those of a ticket."""
    found: dict[str, Any] = {}
    if within is not None:
        from supermask.ticket import Ticket

        outer = SearchConfig.inside(within, Ticket.load(within).config)
        names = {*OF_WITHIN, "weights", "within"} - {key for key in typed if key not in ("weights", "within")}
        found = {name: getattr(outer, name) for name in names}
        if "init" in typed:
            found["weights"] = None  # draws others
    if weights is not None:
        found["weights"] = str(weights)
    if found.get("weights") and "init" not in typed:
        found["init"] = None  # whatever a config file, a recipe or the ticket says
    return found


def _density(ctx: click.Context, sparsity: float | None) -> dict[str, float]:
    """Convert --sparsity to the density that it stands for."""
    if sparsity is None:
        return {}
    mine, other = (ctx.get_parameter_source(name) for name in ("sparsity", "density"))
    if mine == other:
        raise UsageError("--density and --sparsity say the same thing (density = 1 - sparsity); give one of them")
    if other == ParameterSource.COMMANDLINE:
        return {}  # a typed option overrides the environment
    if not 0 <= sparsity < 1:
        raise UsageError(f"sparsity is {sparsity}; it must be at least 0 and below 1")
    return {"density": round(1 - sparsity, 12)}


def _embedded(row: dict[str, Any]) -> dict[str, Any]:
    """Store the weights in the ticket of a finished run; return the run's result."""
    from supermask.ticket import Ticket

    ticket = Ticket.load(row["ticket"])
    if ticket.embedded is None:
        ticket.embed_weights().save(row["ticket"])
    return row | {"ticket_bytes": Path(row["ticket"]).stat().st_size}


def show_tickets(results: list[dict[str, Any]], as_json: bool) -> None:
    """Print one line per seed on stdout."""
    from supermask.experiments.floors import beside

    for row in results:
        if as_json:
            opt.print_json(row)
        else:
            click.echo(
                f"{row['ticket']}  val {row['val_accuracy']:.4f}  train {row['train_accuracy']:.4f}  "
                f"density {row['density']:.4f}  epochs {row['epochs']}  {row['ticket_bytes']:,} bytes"
                + beside(row.get("floor", {}))
            )
