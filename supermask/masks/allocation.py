"""How many weights each layer keeps: one density for the whole net, dealt out over its layers.

uniform      the same density in every layer.
global       no layer has a budget of its own: all are ranked together.
er           Erdos-Renyi: density in proportion to (in + out) / (in * out) (Mocanu et al. 2018).
erk          the same with the kernel's height and width in both sums and products (Evci et al. 2020, arXiv 1911.11134).
smart-ratio  density in proportion to ((L-l+1)^2 + (L-l+1)) / l^2 for layer l of L, 0.3 in the last: the form of Su et
             al. 2020 (arXiv 2009.11094) for plain, VGG-like nets.
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
    """How many of `size` weights a density keeps: rounded, at least one."""
    return min(size, max(1, round(density * size)))


def allocate(
    shapes: Shapes, density: float, allocation: str = "uniform", overrides: Mapping[str, float] | None = None
) -> tuple[dict[str, int], int]:
    """(weights to keep by layer, weights to keep of the layers that are ranked together).

    All counts sum to `kept_count(density, all weights)` exactly, those of overridden layers included, and each is at
    least one; only plain `uniform` rounds in each layer instead. The second is 0 unless `global`, which has no counts
    but those overridden.

    Args:
        shapes: of the maskable weights, (..., in, out).
        density: of the whole net.
        allocation: a name in ALLOCATIONS.
        overrides: layer name -> its own density.

    Raises:
        UsageError: the overrides leave too little, or too much, for the other layers.
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
            f"density {density} of {sum(sizes.values())} weights leaves {budget} for the {len(rest)} layers "
            f"({sum(rest.values())} weights) that have no density of their own"
        )
    if allocation == "global":
        return counts, budget
    shares = _SHARES[allocation](shapes, rest, budget)
    return counts | _whole(shares, rest, budget), 0


def parse_overrides(text: str, shapes: Shapes) -> dict[str, float]:
    """`head/*=1.0,conv1/*=0.5` -> the density of each layer named; a later pattern goes before an earlier one.

    Raises:
        UsageError: a pattern names no layer, or a density is no number above 0 and up to 1.
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
                f"layer density {item!r} is not of the form PATTERN=DENSITY with a density above 0, up to 1"
            )
        matching = [name for name in shapes if fnmatchcase(name, pattern)]
        if not matching:
            raise UsageError(f"layer density {item!r}: no layer is called {pattern}; there are {', '.join(shapes)}")
        found |= dict.fromkeys(matching, density)
    return found


def in_order(shapes: Shapes) -> list[str]:
    """Names of layers in the order of their numbers: conv2 before conv10."""
    return sorted(shapes, key=lambda name: [(not p.isdigit(), int(p) if p.isdigit() else p) for p in _parts(name)])


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"(\d+)", name) if part]


def _uniform(shapes: Shapes, sizes: dict[str, int], budget: int) -> dict[str, float]:
    return {name: budget * size / sum(sizes.values()) for name, size in sizes.items()}


def _er(shapes: Shapes, sizes: dict[str, int], budget: int) -> dict[str, float]:
    return _in_proportion(
        {name: (s[-2] + s[-1]) / (s[-2] * s[-1]) for name, s in shapes.items() if name in sizes}, sizes, budget
    )


def _erk(shapes: Shapes, sizes: dict[str, int], budget: int) -> dict[str, float]:
    return _in_proportion({name: sum(s) / math.prod(s) for name, s in shapes.items() if name in sizes}, sizes, budget)


def _in_proportion(raw: dict[str, float], sizes: dict[str, int], budget: float) -> dict[str, float]:
    """Counts with densities in proportion to `raw`; layers that this would overfill are full, and the others share."""
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
            f"smart-ratio keeps {LAST_OF_SMART_RATIO} of {last}, {fixed[last]:.0f} weights of {budget} in all"
        )
    names = [name for name in order if name in sizes]
    factor = left / sum(raw[name] * sizes[name] for name in names if name not in fixed)
    wanted = {name: fixed.get(name, factor * raw[name] * sizes[name]) for name in names}
    surplus = 0.0
    for name in [*names, *reversed(names)]:  # what overfills a layer goes to those that follow, then back
        wanted[name] += surplus
        surplus = max(0.0, wanted[name] - sizes[name])
        wanted[name] -= surplus
    return wanted


_SHARES = {"uniform": _uniform, "er": _er, "erk": _erk, "smart-ratio": _smart_ratio}


def _whole(shares: dict[str, float], sizes: dict[str, int], budget: int) -> dict[str, int]:
    """Whole counts near the shares, from 1 to the layer's size, that sum to the budget exactly: largest remainders."""
    counts = {name: min(sizes[name], max(1, math.floor(share))) for name, share in shares.items()}
    while (missing := budget - sum(counts.values())) != 0:
        step = 1 if missing > 0 else -1
        free = [name for name in counts if (counts[name] < sizes[name] if step > 0 else counts[name] > 1)]
        free.sort(key=lambda name: step * (counts[name] - shares[name]))
        for name in free[: abs(missing)]:
            counts[name] += step
    return counts
