"""How many weights each layer keeps: the density of the whole network, distributed over its layers.

uniform      the same density in every layer.
global       no count per layer: the weights of all layers are ranked together.
er           Erdos-Renyi: density proportional to (in + out) / (in * out) (Mocanu et al. 2018).
erk          the same, with the kernel's height and width in both the sum and the product (Evci et al. 2020, arXiv
             1911.11134).
smart-ratio  density proportional to ((L-l+1)^2 + (L-l+1)) / l^2 for layer l of L, and 0.3 in the last: the form that
             Su et al. 2020 (arXiv 2009.11094) give for plain networks like VGG.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

from supermask.errors import UsageError
from supermask.types import Shapes

ALLOCATIONS = ("uniform", "global", "er", "erk", "smart-ratio")
LAST_OF_SMART_RATIO = 0.3


def kept_count(density: float, size: int) -> int:
    """How many of `size` weights a density keeps: rounded, but at least one."""
    return min(size, max(1, round(density * size)))


def allocate(
    shapes: Shapes, density: float, allocation: str = "uniform", overrides: Mapping[str, float] | None = None
) -> tuple[dict[str, int], int]:
    """Distribute the density of the network over its layers.

    All counts together, overridden layers included, are exactly `kept_count(density, all weights)`, and each layer
    keeps at least one weight. Plain `uniform` is the exception: without overrides it rounds in each layer.

    Args:
        shapes: shapes of the maskable weights, (..., in, out).
        density: the density of the whole network.
        allocation: a name in ALLOCATIONS.
        overrides: layer name -> density of that layer.

    Returns:
        The number of weights to keep by layer, and the number to keep of all other layers together. The latter is 0
        unless the allocation is `global`, where only overridden layers have a count of their own.

    Raises:
        UsageError: the overrides leave too few or too many weights for the other layers.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    counts = {name: kept_count(own, sizes[name]) for name, own in (overrides or {}).items()}
    rest = {name: size for name, size in sizes.items() if name not in counts}
    if allocation == "uniform" and not counts:
        return {name: kept_count(density, size) for name, size in sizes.items()}, 0
    budget = kept_count(density, sum(sizes.values())) - sum(counts.values())
    least = min(1, len(rest)) if allocation == "global" else len(rest)
    if not least <= budget <= sum(rest.values()):
        raise UsageError(
            f"density {density} of {sum(sizes.values())} weights leaves {budget} for the {len(rest)} layers without a "
            f"density of their own; it should leave from {least} to {sum(rest.values())}"
        )
    if allocation == "global":
        return counts, budget
    shares = _SHARES[allocation](shapes, rest, budget)
    return counts | _rounded(shares, rest, budget), 0


def check_units(least: int, shapes: Shapes, counts: Mapping[str, int], together: int) -> None:
    """Check that each of a layer's output units can keep `least` weights, with what `allocate` returned.

    Raises:
        UsageError: a layer, or all those that share a count, keep too few weights for that, or a unit has fewer.
    """
    units = {name: shape[-1] for name, shape in shapes.items()}
    for name, shape in shapes.items():
        if least > math.prod(shape[:-1]):
            raise UsageError(f"min_per_unit is {least}, and each unit of {name} has {math.prod(shape[:-1])} weights")
        if name in counts and counts[name] < least * units[name]:
            raise UsageError(
                f"min_per_unit {least} needs {least * units[name]:,} weights for the {units[name]:,} units of {name}, "
                f"which keeps {counts[name]:,}: give a higher --density, --layer-density '{name}=...' or another "
                "--allocation"
            )
    needed = least * sum(units[name] for name in shapes if name not in counts)
    if together and together < needed:
        raise UsageError(f"min_per_unit {least} needs {needed:,} weights, and {together:,} are kept: raise --density")


def parse_overrides(text: str, shapes: Shapes) -> dict[str, float]:
    """Parse `head/*=1.0,conv1/*=0.5` into the density of each layer that a pattern matches; the last match counts.

    Raises:
        UsageError: a pattern matches no layer, or a density is not a number above 0 and at most 1.
    """
    found: dict[str, float] = {}
    for item in filter(None, text.split(",")):
        pattern, _, value = item.partition("=")
        try:
            density = float(value)
        except ValueError:
            density = math.nan
        if not 0 < density <= 1:
            raise UsageError(
                f"layer density {item!r} is not of the form PATTERN=DENSITY with a density above 0 and at most 1"
            )
        matching = [name for name in shapes if fnmatchcase(name, pattern)]
        if not matching:
            raise UsageError(f"layer density {item!r}: no layer matches {pattern}; the layers are {', '.join(shapes)}")
        found |= dict.fromkeys(matching, density)
    return found


def in_order(shapes: Shapes) -> list[str]:
    """Layer names sorted with their numbers as numbers: conv2 comes before conv10."""
    return sorted(shapes, key=lambda name: [(not p.isdigit(), int(p) if p.isdigit() else p) for p in _parts(name)])


def _parts(name: str) -> list[str]:
    """`conv10/kernel` -> `conv`, `10`, `/kernel`."""
    return [part for part in re.split(r"(\d+)", name) if part]


def _uniform(shapes: Shapes, sizes: dict[str, int], budget: int) -> dict[str, float]:
    return {name: budget * size / sum(sizes.values()) for name, size in sizes.items()}


def _er(shapes: Shapes, sizes: dict[str, int], budget: int) -> dict[str, float]:
    return _proportional(
        {name: (s[-2] + s[-1]) / (s[-2] * s[-1]) for name, s in shapes.items() if name in sizes}, sizes, budget
    )


def _erk(shapes: Shapes, sizes: dict[str, int], budget: int) -> dict[str, float]:
    return _proportional({name: sum(s) / math.prod(s) for name, s in shapes.items() if name in sizes}, sizes, budget)


def _proportional(raw: dict[str, float], sizes: dict[str, int], budget: float) -> dict[str, float]:
    """Counts with densities proportional to `raw`; layers that would overflow are full, the others share the rest."""
    full: dict[str, float] = {}
    while True:
        open_layers = {name: raw[name] * sizes[name] for name in raw if name not in full}
        factor = (budget - sum(full.values())) / sum(open_layers.values()) if open_layers else 0.0
        over = [name for name in open_layers if factor * raw[name] > 1]
        if not over:
            return full | {name: factor * value for name, value in open_layers.items()}
        full |= {name: float(sizes[name]) for name in over}


def _smart_ratio(shapes: Shapes, sizes: dict[str, int], budget: int) -> dict[str, float]:
    order, depth = in_order(shapes), len(shapes)
    raw = {name: ((depth - i + 1) ** 2 + (depth - i + 1)) / i**2 for i, name in enumerate(order, start=1)}
    last = order[-1]
    fixed = {last: LAST_OF_SMART_RATIO * sizes[last]} if last in sizes and len(sizes) > 1 else {}
    left = budget - sum(fixed.values())
    if left <= 0:
        raise UsageError(
            f"smart-ratio keeps {LAST_OF_SMART_RATIO} of {last}, which is {fixed[last]:.0f} weights, but only {budget} "
            "are to be kept in all; choose a higher density or another allocation"
        )
    names = [name for name in order if name in sizes]
    factor = left / sum(raw[name] * sizes[name] for name in names if name not in fixed)
    wanted = {name: fixed.get(name, factor * raw[name] * sizes[name]) for name in names}
    surplus = 0.0
    for name in [*names, *reversed(names)]:  # what overflows a layer goes to the next ones, then back
        wanted[name] += surplus
        surplus = max(0.0, wanted[name] - sizes[name])
        wanted[name] -= surplus
    return wanted


_SHARES = {"uniform": _uniform, "er": _er, "erk": _erk, "smart-ratio": _smart_ratio}


def _rounded(shares: dict[str, float], sizes: dict[str, int], budget: int) -> dict[str, int]:
    """Integer counts close to the shares, from 1 to the size of the layer, whose sum is the budget.

    Shares are rounded by the largest remainders.
    """
    counts = {name: min(sizes[name], max(1, math.floor(share))) for name, share in shares.items()}
    while (missing := budget - sum(counts.values())) != 0:
        step = 1 if missing > 0 else -1
        free = [name for name in counts if (counts[name] < sizes[name] if step > 0 else counts[name] > 1)]
        free.sort(key=lambda name: step * (counts[name] - shares[name]))
        for name in free[: abs(missing)]:
            counts[name] += step
    return counts
