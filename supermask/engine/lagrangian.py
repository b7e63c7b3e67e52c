"""Lagrangian control: a soft method that ends at the density it is asked for.

After each update, the scores s become those closest to them that keep the target density d:

    minimise |s' - s|^2 / 2  subject to  kept(s') = d        L = |s' - s|^2 / 2 + lambda * (kept(s') - d)

Each score has the slope 1 in `kept`, straight-through, as if each kept weight had one price: s' = s - lambda. The kept
share falls with lambda, so the multiplier is the root of kept(s - lambda) = d. It is solved for in every step, where
Edge Pruning (Bhaskar et al., NeurIPS 2024) ascends multipliers of a penalty: the learning rates of the methods
go from 0.001 to 100, and no rate of ascent suits them all. That the target is approached over time is as there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import jax.numpy as jnp
from jax import lax

from supermask import masks
from supermask.engine.wrapped import Wrapped
from supermask.methods._controlled import Controlled, total
from supermask.types import Array, Clock, Method, Shapes, Tree

FALL = 0.5
"""Share of the search over which the target falls from the density at the start, with the cube of the time left."""

TOLERANCE = 0.002
"""How far the kept share may be from the target, relative to it."""

_FIRST_REACH, _FARTHER = 1e-3, 4.0
_MOST = 30  # steps to bracket the root, and steps to close in on it


@dataclass(frozen=True, kw_only=True, eq=False)
class Lagrangian(Wrapped):
    """A soft method under control.

    The kept share is that of the training mask at first and that of the hardened mask at the end; in between it is a
    mean, weighted by the time.
    """

    method: Controlled

    def numbers(self, shapes: Shapes) -> tuple[Any, Callable[[Any], Method]]:
        found, given = self.method.numbers(shapes)

        def aiming(numbers: Any) -> Method:
            return replace(self, density=numbers[0], method=cast(Controlled, given(numbers[1])))

        return (self.density, found), aiming

    def init_state(self, scores: Tree, weights: Tree) -> Any:
        """Also the share that the first scores keep, and how far the last multiplier was from 0."""
        start = self._kept(scores, weights, jnp.float32(0))
        return super().init_state(scores, weights) | {"start": start, "reach": jnp.float32(_FIRST_REACH)}

    def after_update(
        self, scores: Tree, state: Any, before: Tree, weights: Tree, *, key: Array, clock: Clock, loss: Array = 0.0
    ) -> tuple[Tree, Any]:
        moved, state = super().after_update(scores, state, before, weights, key=key, clock=clock, loss=loss)
        left = jnp.clip(1 - clock.progress / FALL, 0, 1) ** 3
        target = self.density + left * (state["start"] - self.density)

        def excess(price: Array) -> Array:
            return self._kept(self.method.lowered(moved, price), weights, clock.progress) - target

        slack = jnp.maximum(TOLERANCE * target, 0.5 / sum(s.size for s in moved.values()))
        price = root(excess, state["reach"], slack)
        reach = jnp.where(price == 0, state["reach"], jnp.abs(price))
        return self.method.lowered(moved, price), {**state, "reach": reach}

    def _kept(self, scores: Tree, weights: Tree, progress: Array) -> Array:
        hard, soft = self.method.harden(scores, weights), self.method.expected(scores, progress=progress)
        if soft is None:
            return masks.kept_fraction(hard)
        mean = total(soft) / sum(p.size for p in soft.values())
        return progress * masks.kept_fraction(hard) + (1 - progress) * mean


def controlled(method: Method) -> Method:
    """Return the method under control, if it is to be."""
    if isinstance(method, Controlled) and method.is_controlled:
        return Lagrangian(density=method.density, method=method)
    return method


def root(excess: Callable[[Array], Array], reach: Array, slack: Array) -> Array:
    """Return where a falling function is 0, up to `slack`; 0 if it is nowhere.

    The root is bracketed from 0 on by steps that grow from `reach`, then found by the Illinois variant of regula falsi,
    in which each fourth step is a bisection. Where the function jumps over 0, that is the place of the jump.
    """
    first = excess(jnp.float32(0))
    side = jnp.where(first > 0, jnp.float32(1), jnp.float32(-1))

    def outside(state: tuple[Array, ...]) -> Array:
        _, _, _, there, step = state
        return (side * there > slack) & (step < _MOST)

    def farther(state: tuple[Array, ...]) -> tuple[Array, ...]:
        _, _, far, there, step = state
        next_far = side * reach * _FARTHER**step
        return far, there, next_far, excess(next_far), step + 1

    zero = jnp.float32(0)
    near, here, far, there, _ = lax.while_loop(outside, farther, (zero, first, zero, first, zero))
    found = side * there <= slack

    def apart(state: tuple[Array, ...]) -> Array:
        *_, value, step = state
        return (jnp.abs(value) > slack) & (step < _MOST)

    def closer(state: tuple[Array, ...]) -> tuple[Array, ...]:
        near, here, far, there, last, _, value, step = state
        share = jnp.where(step % 4 == 3, jnp.float32(0.5), here / (here - there))
        tried = near + (far - near) * share
        value = excess(tried)
        beyond = side * value < 0
        here = jnp.where(beyond, jnp.where(last > 0, here / 2, here), value)
        there = jnp.where(beyond, value, jnp.where(last < 0, there / 2, there))
        near, far = jnp.where(beyond, near, tried), jnp.where(beyond, tried, far)
        return near, here, far, there, jnp.where(beyond, jnp.float32(1), jnp.float32(-1)), tried, value, step + 1

    start = (near, here, far, there, zero, far, jnp.where(found, there, zero), zero)
    return jnp.where(found, lax.while_loop(apart, closer, start)[5], zero)
