"""supermask bench: measures how fast this machine searches."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import click

from supermask.cli import _options as opt
from supermask.cli._help import GroupedCommand
from supermask.config import SearchConfig
from supermask.errors import UsageError
from supermask.runtime.devices import choose_device, require_device
from supermask.runtime.numerics import fixed_numerics

FIELDS = (
    "arch",
    "method",
    "density",
    "width",
    "augment",
    "batch_size",
    "optimizer",
    "precision",
    "conv",
    "devices",
    "micro_batch",
    "seeds",
)


@click.command(cls=GroupedCommand)
@partial(opt.config_options, names=FIELDS)
@opt.arch_option
@opt.method_option
@opt.option(
    "--shape", default="32x32x3", show_default=True, help="Height, width and channels of the images.", group="data"
)
@opt.option("--classes", type=click.IntRange(2), default=10, show_default=True, help="Number of classes.", group="data")
@opt.option(
    "--rounds", type=click.IntRange(1), default=5, show_default=True, help="Number of measured rounds of about 2 s."
)
@opt.device_option
@opt.json_option
def command(
    pairs: tuple[str, ...],
    arch_pairs: tuple[str, ...],
    shape: str,
    classes: int,
    rounds: int,
    device: str,
    as_json: bool,
    **values: Any,
) -> None:
    """Time the steps of a search on random images.

    Prints images/s, compile time, and the share of the machine's matrix-product rate that the search reaches.
    """
    config = SearchConfig(**values, options=opt.parse_options(pairs), arch_options=opt.parse_options(arch_pairs, "-a"))
    size = _size(shape)
    choose_device(device, config.devices)
    require_device(device)
    from supermask.experiments.bench import bench

    with fixed_numerics(opt.printer()):
        found = asdict(bench(config, shape=size, classes=classes, rounds=rounds))
    if as_json:
        named = {key: values[key] for key in ("arch", "method", "density", "precision", "conv")}
        opt.print_json({**named, "shape": list(size), **found})
    else:
        _print(found)


def _size(shape: str) -> tuple[int, int, int]:
    try:
        height, width, channels = (int(part) for part in shape.split("x"))
    except ValueError:
        height = width = channels = 0
    if min(height, width, channels) < 1:
        raise UsageError(f"shape is {shape!r}; it must be HEIGHTxWIDTHxCHANNELS, like 32x32x3")
    return height, width, channels


def _print(found: dict[str, Any]) -> None:
    from supermask.cli._tables import table

    low, high = found["spread"]
    rate = f"{found['images_per_second']:,.0f} ({low:,.0f} to {high:,.0f} in {found['rounds']} rounds)"
    seeds = f", {found['seeds']} seeds side by side" if found["seeds"] > 1 else ""
    where = f"{found['devices']} x {found['device']}"
    rows = [
        ["images/s", rate + seeds],
        ["ms/step", f"{found['ms_per_step']:,.2f} at batch {found['batch_size']}, micro-batch {found['micro_batch']}"],
        ["compiling", f"{found['compile_seconds']:.1f} s"],
        ["matrix products", f"{found['matmul_gflops']:,.0f} GFLOP/s measured"],
        ["share of that", f"{found['matmul_share']:.2f} at {found['gflop_per_image']:.3f} GFLOP per image (direct)"],
        ["peak memory", f"{found['peak_memory_bytes'] / 1e9:.2f} GB"],
        ["on", where],
    ]
    click.echo(table(rows))
