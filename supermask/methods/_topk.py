"""Shared by methods that keep an exact number of weights: allocation over layers, patterns, annealing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from supermask import masks
from supermask.errors import UsageError, require
from supermask.masks.allocation import ALLOCATIONS, allocate, check_units, kept_count, parse_overrides
from supermask.methods._freezing import Freezing
from supermask.methods._numbers import Numbered
from supermask.types import Array, Clock, Shapes, Tree


@dataclass(frozen=True)
class Selecting(Numbered, Freezing):
    """Keeps the weights that rank highest, exactly as many as the density asks for.

    Attributes:
        allocation: uniform, global, er, erk or smart-ratio, see `supermask.masks.allocation`.
        layer_density: densities of individual layers, `head/*=1.0,conv1/*=0.5`; the other layers share the rest.
        pattern: `2:4` keeps the best two of every four inputs of each output, as sparse tensor cores require. An
            incomplete last group keeps the same share, rounded up.
        min_per_unit: how many weights each output unit keeps at least; the density stays the same.
    """

    allocation: str = "uniform"
    layer_density: str = ""
    pattern: str = ""
    min_per_unit: int = 0

    keeps_density: ClassVar[bool] = True
    added: ClassVar[Mapping[str, Any]] = {"min_per_unit": 0}

    def __post_init__(self) -> None:
        super().__post_init__()
        require("allocation", self.allocation, ALLOCATIONS)
        if self.min_per_unit < 0:
            raise UsageError(f"min_per_unit is {self.min_per_unit}; it must be 0 or more")
        if not self.pattern:
            return
        if self.is_frozen or self.min_per_unit:
            raise UsageError(
                f"pattern {self.pattern} chooses among all inputs of each output: leave out freeze_pruned, freeze_kept "
                "and min_per_unit"
            )
        best, group = masks.parse_pattern(self.pattern)
        if not math.isclose(self.density, best / group, rel_tol=1e-5):
            share = f"{best / group:.6g}"
            raise UsageError(f"pattern {self.pattern} keeps {share} of the weights: give --density {share}")
        if self.allocation != type(self).allocation:
            raise UsageError(f"pattern {self.pattern} leaves no choice of allocation")

    def check(self, shapes: Shapes) -> None:
        parse_overrides(self.layer_density, shapes)
        if not self.pattern:
            counts, together = self.counts(shapes)
            check_units(self.min_per_unit, shapes, counts, together)

    def counts(self, shapes: Shapes) -> tuple[dict[str, int], int]:
        """How many weights each layer keeps, and those without a number of their own together, without a pattern."""
        return allocate(shapes, self.density, self.allocation, parse_overrides(self.layer_density, shapes))

    @property
    def densities(self) -> Sequence[float]:
        """The densities that `select` selects for."""
        return (self.density,)

    def made(self, shapes: Shapes) -> list[tuple[dict[str, int], int | None]]:
        """For each of the densities: how many weights each layer keeps, and the others together, None without them."""
        overrides = parse_overrides(self.layer_density, shapes)
        if self.pattern:
            return [({name: kept_count(own, math.prod(shapes[name])) for name, own in overrides.items()}, None)]
        each = [allocate(shapes, density, self.allocation, overrides) for density in self.densities]
        return [(counts, together or None) for counts, together in each]

    def ranked(self, scores: Tree) -> Tree:
        """The values to rank by, differentiable; |score|, as in the published code of edge-popup, or signed scores."""
        return scores if self.signed_ranks else {name: jnp.abs(s) for name, s in scores.items()}

    @property
    def signed_ranks(self) -> bool:
        """Whether `ranked` may be negative; the selection is then a little slower."""
        return False

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        return self.select(self.ranked(scores))

    def select(self, values: Tree, ahead: Array | None = None, which: int = 0) -> Tree:
        """Which weights are kept, as bool arrays.

        Args:
            values: the values that the weights are ranked by.
            ahead: how much of the way from one half to the density is left, from 1 to 0; None means 0.
            which: which of the densities.
        """
        counts, together = self.given({name: v.shape for name, v in values.items()})[which]
        kept: Tree = {}
        if self.pattern:
            kept = {name: masks.best_of_groups(v, self.pattern) for name, v in values.items() if name not in counts}
        if self.min_per_unit:
            values = {name: masks.best_first(v, self.min_per_unit) for name, v in values.items()}
        top_k = masks.top_k_signed if self.signed_ranks else masks.top_k
        for name, count in counts.items():
            kept[name] = top_k(values[name], on_the_way(count, values[name].size, ahead))
        if together is not None:
            rest = {name: v for name, v in values.items() if name not in counts}
            size = sum(v.size for v in rest.values())
            kept |= masks.over_layers(top_k, rest, on_the_way(together, size, ahead))
        return {name: kept[name] for name in values}


@dataclass(frozen=True)
class TopK(Selecting):
    """Straight-through top-k: the gradient passes through the selection unchanged.

    Attributes:
        anneal: share of the search over which the density falls from one half to its target. The difference shrinks
            with the cube of the time left (Diffenderfer & Kailkhura 2021, for one threshold over all layers).
    """

    anneal: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_anneal(self.anneal)
        if self.pattern and self.anneal:
            raise UsageError(f"pattern {self.pattern} leaves nothing to anneal")

    @property
    def carries_cuts(self) -> bool:
        """Whether a step may begin at the cuts of the last one: |score| is ranked, layer by layer, for the same counts.

        A subclass that changes any of this selects anew in every step.
        """
        of_topk = ("ranked", "select", "ahead", "made", "densities", "init_state", "mask", "after_update")
        plain = all(getattr(type(self), name) is getattr(TopK, name) for name in of_topk)
        return plain and not (self.signed_ranks or self.pattern or self.min_per_unit or self.anneal)

    def init_state(self, scores: Tree, weights: Tree) -> Any:
        """The cuts of the first mask, see `masks.first_cuts`, in the order of the names; {} where none are carried."""
        counts, together = self.made({name: s.shape for name, s in scores.items()})[0]
        if not self.carries_cuts or together is not None:
            return {}
        names = sorted(scores)
        found = masks.first_cuts([scores[name] for name in names], [counts[name] for name in names])
        return {"cuts": jnp.asarray(found)}

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array, state: Any = None) -> Tree:
        soft = self.ranked(scores)
        if state and self.carries_cuts:
            hard = self._cut(scores, state["cuts"])
        else:
            hard = self.select(soft, self.ahead(progress))
        return {name: masks.straight_through(hard[name], soft[name]) for name in soft}

    def harden(self, scores: Tree, weights: Tree, state: Any = None) -> Tree:
        if not (state and self.carries_cuts):
            return super().harden(scores, weights)
        return self._cut(scores, self._cuts(scores, state["cuts"]))

    def _cut(self, scores: Tree, cuts: Array) -> Tree:
        return {name: masks.beyond(scores[name], *cuts[:2, i]) for i, name in enumerate(sorted(scores))}

    def _cuts(self, scores: Tree, near: Array) -> Array:
        names, counts = sorted(scores), self.given({name: s.shape for name, s in scores.items()})[0][0]
        return masks.next_cuts([scores[name] for name in names], [counts[name] for name in names], near)

    def after_update(
        self, scores: Tree, state: Any, before: Tree, weights: Tree, *, key: Array, clock: Clock
    ) -> tuple[Tree, Any]:
        if not (state and self.carries_cuts):
            return scores, state
        return scores, {"cuts": self._cuts(scores, state["cuts"])}

    def ahead(self, progress: Array) -> Array | None:
        """The `ahead` that `select` takes."""
        return ahead(self.anneal, progress)


def check_anneal(anneal: float) -> None:
    """Raise a UsageError unless it is a share."""
    if not 0 <= anneal <= 1:
        raise UsageError(f"anneal is {anneal}; it must be from 0 to 1")


def ahead(anneal: float, progress: Array) -> Array | None:
    """How much of the way from one half to the density is left, from 1 to 0; None if nothing is annealed."""
    return jnp.clip(1 - progress / anneal, 0, 1) ** 3 if anneal else None


def on_the_way(count: Array | int, size: int, ahead: Array | None) -> Array | int:
    """How many of `size` weights are kept while the density is still falling to `count`."""
    if ahead is None:
        return count
    return count + jnp.round(jnp.maximum(0, kept_count(0.5, size) - count) * ahead).astype(jnp.int32)
