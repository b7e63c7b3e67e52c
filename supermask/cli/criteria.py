"""supermask criteria: scores masks that a training suggests, on the weights that it began with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supermask.cli import _options as opt
from supermask.cli._help import GroupedCommand
from supermask.cli._plot import plot_option
from supermask.errors import UsageError
from supermask.runtime.devices import choose_device, require_device

if TYPE_CHECKING:
    from supermask.experiments.criteria import Comparison


@click.command(cls=GroupedCommand)
@click.argument("run", type=opt.PATH)
@opt.option("--criterion", help="Names from `supermask list criteria`, as in A,B.  [default: all]", group="method")
@opt.option(
    "--keep",
    default="conv=0.9,dense=0.8,head=0.9",
    show_default=True,
    help="Fraction that a round keeps, by kind of layer.",
    group="method",
)
@opt.option("--rounds", type=int, default=24, show_default=True, help="Number of rounds.", group="method")
@opt.option("--densities", help="Densities of every layer, as in 0.5,0.2, instead of rounds.", group="method")
@opt.option(
    "--values",
    default="initial,signed-constant",
    show_default=True,
    help="What is masked: initial, signed-constant or final weights.",
    group="method",
)
@opt.option("--diagnostics", is_flag=True, help="Also compare what masking does with what training did.")
@plot_option("Draw test accuracy against density.")
@plot_option("Draw where the weights of each layer began and ended; implies --diagnostics.", "--plot-weights")
@opt.option("--dataset", help="Where the data lies now.  [default: the dataset of RUN]", group="data")
@opt.data_dir_option
@opt.device_option
@opt.quiet_option
@opt.json_option
@click.pass_context
def command(ctx: click.Context, run: Path, device: str, quiet: bool, as_json: bool, **values: Any) -> None:
    """Score masks on the initial weights of RUN without any training.

    RUN is the folder, or a weights file, of a finished dense `supermask train`. Each criterion ranks the weights of a
    layer by their values before and after that training; what ranks lowest is pruned in one shot, in round k down to
    KEEP to the power of k.
    """
    if values["densities"] and opt.typed(ctx) & {"keep", "rounds"}:
        raise UsageError("--densities are in place of rounds: leave out --keep and --rounds")
    if values["plot"] and values["plot"] == values["plot_weights"]:
        raise UsageError("--plot and --plot-weights are two pictures: give them two files")
    choose_device(device)
    require_device(device)
    from supermask.experiments.criteria import CriteriaSweep, compare_criteria

    sweep = CriteriaSweep(
        criteria=_words(values["criterion"]),
        keep=_numbers("--keep", dict(opt.parse_options(tuple(_words(values["keep"])), "--keep"))),
        rounds=values["rounds"],
        densities=tuple(_numbers("--densities", {word: word for word in _words(values["densities"])}).values()),
        values=_words(values["values"]),
        diagnostics=values["diagnostics"] or values["plot_weights"] is not None,
    )
    found = compare_criteria(
        run,
        sweep,
        data_dir=values["data_dir"],
        dataset=values["dataset"],
        note=lambda text: None if quiet and not text.startswith("warning: ") else click.echo(text, err=True),
        on_rows=_print_rows if as_json else lambda rows: None,
    )
    if as_json:
        _print_rows([*found.masks, *found.layers])
    else:
        _print(found)
    _draw(found, run, values["plot"], values["plot_weights"])


def _draw(found: Comparison, run: Path, plot: Path | None, plot_weights: Path | None) -> None:
    from supermask.report.curves import curves
    from supermask.report.images import joint_histogram

    name = run.absolute().name
    if plot:
        curves(
            found.rows,
            plot,
            x="density",
            y="test_accuracy",
            label="criterion",
            title=f"Masks on the weights of {name}, without training",
            log_x=True,
            chance=found.chance,
            panel="values" if len({row["values"] for row in found.rows}) > 1 else None,
        )
    if plot_weights:
        joint_histogram(found.layers, plot_weights, f"Weights of {name}, before and after training")


def _print_rows(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        opt.print_json(row)


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def _numbers(flag: str, words: dict[str, str]) -> dict[str, float]:
    try:
        return {key: float(word) for key, word in words.items()}
    except ValueError as error:
        raise UsageError(f"{flag} has {', '.join(words.values())}; all of these must be numbers") from error


def _print(found: Comparison) -> None:
    from supermask.cli._tables import table

    cells = [["criterion", "values", "round", "density", "val accuracy", "test accuracy", "+-", "seeds"]]
    for row in found.best():
        number = "" if row["round"] is None else str(row["round"])
        numbers = [f"{row[key]:.4f}" for key in ("density", "val_accuracy", "test_accuracy", "test_accuracy_std")]
        cells.append([row["criterion"], row["values"], number, *numbers, str(row["seeds"])])
    click.echo(table(cells, right={2, 3, 4, 5, 6, 7}))
    click.echo(
        "Each at the density of the best mean validation accuracy; +- is the standard deviation over seeds. "
        f"Chance: {found.chance:.4f}, {found.guess}."
    )
    if found.masks:
        click.echo("\n" + table(_of_masks(found.masks), right={1, 2, 3, 4, 5, 6, 7}))
        click.echo("\n" + table(_of_layers(found.layers), right={1, 2}))


def _of_masks(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Rows of the table of `Comparison.masks`."""
    keys = ("density", "pruned_moving_to_zero", "all_moving_to_zero", "alignment", "val_loss", "random_val_loss")
    cells = [["criterion", "seed", "density", "pruned to 0", "all to 0", "cosine", "val loss", "of random mask"]]
    for row in rows:
        numbers = ["-" if row[key] is None else f"{row[key]:.4f}" for key in keys]
        cells.append([row["criterion"], str(row["seed"]), *numbers])
    return cells


def _of_layers(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Rows of the table of `Comparison.layers`."""
    return [["layer", "seed", "sign flips"]] + [
        [row["layer"], str(row["seed"]), f"{row['sign_flips']:.4f}"] for row in rows
    ]
