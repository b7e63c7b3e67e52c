"""What the methods share that keep an exact number of weights: budgets of layers, patterns, annealing."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from supermask import masks
from supermask.allocation import ALLOCATIONS, allocate, kept_count, parse_overrides
from supermask.errors import UsageError, require
from supermask.types import Array, Method, Tree


@dataclass(frozen=True)
class TopK(Method):
    """The weights that rank highest are kept, exactly as many as the density says.

    Attributes:
        allocation: uniform, global, er, erk or smart-ratio, see `supermask.allocation`.
        layer_density: densities of single layers, `head/*=1.0,conv1/*=0.5`; the others share the rest.
        pattern: `2:4` keeps the best two of every four inputs of each output, as sparse tensor cores want it.
        anneal: share of the search over which the density falls to its target from one half: the difference shrinks
            with the third power of what is left (Diffenderfer & Kailkhura 2021, for one threshold over all layers).
    """

    allocation: str = "uniform"
    layer_density: str = ""
    pattern: str = ""
    anneal: float = 0.0

    keeps_density: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require("allocation", self.allocation, ALLOCATIONS)
        if not 0 <= self.anneal <= 1:
            raise UsageError(f"anneal is {self.anneal}; it must be from 0 to 1")
        if not self.pattern:
            return
        best, group = masks.parse_pattern(self.pattern)
        if self.density != best / group:
            raise UsageError(
                f"pattern {self.pattern} keeps {best / group:g} of the weights: give --density {best / group:g}"
            )
        if self.allocation != "uniform" or self.anneal:
            raise UsageError(f"pattern {self.pattern} leaves no choice of allocation or anneal")

    def ranked(self, scores: Tree) -> Tree:
        """What is ranked, differentiable; |score| as the published code of edge-popup."""
        return {name: jnp.abs(s) for name, s in scores.items()}

    @property
    def below_zero(self) -> bool:
        """Whether `ranked` may be negative, which takes a selection that is a little slower."""
        return False

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        soft = self.ranked(scores)
        hard = self.select(soft, progress if self.anneal else None)
        return {name: masks.straight_through(hard[name], soft[name]) for name in soft}

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        return self.select(self.ranked(scores))

    def select(self, values: Tree, progress: Array | None = None, density: float | None = None) -> Tree:
        """The weights that are kept, bool: of the method's own density at the end, or at a progress, or of another."""
        shapes = {name: v.shape for name, v in values.items()}
        overrides = parse_overrides(self.layer_density, shapes)
        if self.pattern:
            free = {name: masks.best_of_groups(v, self.pattern) for name, v in values.items() if name not in overrides}
            counts, together = {name: kept_count(own, values[name].size) for name, own in overrides.items()}, 0
        else:
            free = {}
            counts, together = allocate(shapes, density or self.density, self.allocation, overrides)
        top_k = masks.top_k_signed if self.below_zero else masks.top_k
        kept = free | {
            name: top_k(values[name], self._at(count, values[name].size, progress)) for name, count in counts.items()
        }
        if together:
            rest = {name: v for name, v in values.items() if name not in counts}
            kept |= masks.over_layers(top_k, rest, self._at(together, sum(v.size for v in rest.values()), progress))
        return {name: kept[name] for name in values}

    def _at(self, count: int, size: int, progress: Array | None) -> Array | int:
        """How many of `size` are kept on the way to `count`."""
        if progress is None:
            return count
        left = jnp.clip(1 - progress / self.anneal, 0, 1) ** 3
        return count + jnp.round(max(0, kept_count(0.5, size) - count) * left).astype(jnp.int32)
