"""Options of methods that keep an exact density: its spread over layers and units, and which weights are frozen."""

from __future__ import annotations

from typing import Any

from supermask.cli._options import F, Names, given, option
from supermask.masks.allocation import ALLOCATIONS

_NAMES = ("allocation", "layer_density", "pattern", "min_per_unit", "freeze_pruned", "freeze_kept")


def topk_options(command: F) -> F:
    """Add these options to a command."""
    for decorate in (
        option(
            "--freeze-kept",
            type=float,
            metavar="SHARE",
            help="Keep this share of each layer's weights for good, chosen by the seed.",
            group="method",
        ),
        option(
            "--freeze-pruned",
            type=float,
            metavar="SHARE",
            help="Remove this share of each layer's weights for good, chosen by the seed; the ticket holds the rest.",
            group="method",
        ),
        option(
            "--min-per-unit", type=int, metavar="N", help="Keep at least N weights of each output unit.", group="method"
        ),
        option("--pattern", metavar="N:M", help="Keep the best N of every M inputs of each output.", group="method"),
        option(
            "--layer-density",
            multiple=True,
            metavar="NAME=DENSITY",
            help="Density of the layers with this name, such as 'head/*=1.0'; may be repeated.",
            group="method",
        ),
        option(
            "--allocation",
            type=Names(ALLOCATIONS),
            help="How to distribute the density over layers.  [default: the method's]",
            group="method",
        ),
    ):
        command = decorate(command)
    return command


def topk_given(values: dict[str, Any]) -> dict[str, Any]:
    """Take these options out of a command's values; return those that were given, as options of the method."""
    found = {name: values.pop(name) for name in _NAMES}
    return given(**found | {"layer_density": ",".join(found["layer_density"])})
