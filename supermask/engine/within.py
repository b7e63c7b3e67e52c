"""Within: a method that searches inside a given mask, made of any method. What the mask drops stays dropped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from supermask.engine.lagrangian import Lagrangian
from supermask.engine.wrapped import Wrapped
from supermask.errors import UsageError
from supermask.masks.allocation import kept_count
from supermask.types import Array, Clock, InitContext, Method, Tree

LOWEST = -1e30
"""Stands for the score of a dropped weight: below every score, and small enough that no method makes it infinite."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Within(Wrapped):
    """Another method whose scores of dropped weights rank below all others, and whose mask is 0 there.

    The method sees full weights of full shape, so its allocation and its redrawn weights mean what they do without.
    For its first scores alone, dropped weights are 0, since those may be derived from the network. The given mask moves
    in `method_state`, beside the method's own.

    Attributes:
        inside: bool, by masked parameter: False where a weight is dropped.
    """

    inside: Tree

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        left = {name: jnp.where(self.inside[name], w, 0) for name, w in weights.items()}
        return chosen(self.inside, super().init(key, left, context))

    def init_state(self, scores: Tree, weights: Tree) -> Any:
        state = self.first_state(scores)
        return super().init_state(self.ranked_apart(scores, state), weights) | state

    def first_state(self, scores: Tree) -> dict[str, Tree]:
        """Return what says of each weight whether it may be kept."""
        return {"inside": {name: jnp.asarray(self.inside[name]) for name in scores}}

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array, state: Any = None) -> Tree:
        low = self.ranked_apart(scores, state)
        return chosen(state["inside"], super().mask(low, weights, key=key, progress=progress, state=state))

    def harden(self, scores: Tree, weights: Tree, state: Any = None) -> Tree:
        low = self.ranked_apart(scores, state)
        return chosen(state["inside"], super().harden(low, weights, state=state))

    def after_update(
        self, scores: Tree, state: Any, before: Tree, weights: Tree, *, key: Array, clock: Clock, loss: Array = 0.0
    ) -> tuple[Tree, Any]:
        low, earlier = (self.ranked_apart(tree, state) for tree in (scores, before))
        moved, state = super().after_update(low, state, earlier, weights, key=key, clock=clock, loss=loss)
        return chosen(state["inside"], moved), state

    def ranked_apart(self, scores: Tree, state: Any) -> Tree:
        """The scores, with those of dropped weights below all others."""
        inside = state["inside"]
        if self.signed_ranks:
            return each(inside, scores, lambda kept, s: jnp.where(kept, s, LOWEST))
        # Ranked by their magnitude: below all others is 0, and a score of 0 that is not dropped is above that.
        least = jnp.finfo(jnp.float32).tiny
        return each(inside, scores, lambda kept, s: jnp.where(kept, jnp.where(s == 0, least, s), 0))


def within(method: Method, inside: Tree, ticket: str) -> Within:
    """Return a method that searches inside a mask.

    Args:
        method: of a search.
        inside: bool, by masked parameter.
        ticket: the file that the mask is from, for messages.

    Raises:
        UsageError: the mask keeps fewer weights than the method is to keep.
    """
    if getattr(method, "pattern", "") or getattr(method, "chooses_in_groups", False):
        raise UsageError("a pattern chooses among all inputs of an output, and --within leaves some: leave out one")
    found = Within(density=method.density, method=method, inside=inside)
    if method.keeps_density or isinstance(method, Lagrangian):
        _check_density(found, ticket)
    if method.keeps_density:
        _check_room(found, ticket)
    return found


def _check_density(found: Within, ticket: str) -> None:
    method, inside = found.method, found.inside
    room, total = sum(int(kept.sum()) for kept in inside.values()), sum(kept.size for kept in inside.values())
    if kept_count(method.density, total) > room:
        largest = np.floor(room / total * 1e6) / 1e6
        raise UsageError(
            f"density {method.density:g} is of all weights, and {ticket} keeps {room:,} of {total:,}: give --density "
            f"{largest:g} at most"
        )


def _check_room(found: Within, ticket: str) -> None:
    """Let the method choose among equal scores: it chooses dropped weights only where the others are too few."""
    method, inside = found.method, found.inside
    equal = {name: jnp.ones(kept.shape, jnp.float32) for name, kept in inside.items()}
    scores = found.ranked_apart(equal, {"inside": inside})
    for name, mask in method.harden(scores, scores).items():
        kept = np.asarray(mask) != 0
        asked, there = int(kept.sum()), int(inside[name].sum())
        if asked <= there and (kept & ~np.asarray(inside[name])).any():
            raise UsageError(
                f"min_per_unit {getattr(method, 'min_per_unit', 0)} asks for more weights of a unit of {name} than "
                f"{ticket} keeps: give a lower --min-per-unit"
            )
        if asked > there:
            raise UsageError(
                f"density {method.density:g} keeps {asked:,} of the {inside[name].size:,} weights of {name}, where "
                f"{ticket} keeps {there:,}: give a lower --density, or --allocation global"
            )


def chosen(inside: Tree, tree: Tree) -> Tree:
    """The tree, with 0 for whatever is not inside."""
    return each(inside, tree, lambda kept, array: jnp.where(kept, array, jnp.zeros_like(array)))


def each(inside: Tree, tree: Tree, function: Callable[[Array, Array], Array]) -> Tree:
    """Apply a function to the parts of each parameter; a method's own leading axis has the same part throughout."""
    return {name: function(jnp.broadcast_to(inside[name], array.shape), array) for name, array in tree.items()}
