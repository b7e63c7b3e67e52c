"""The idea: mask times frozen weights, the network applied to the product, the gradient taken for the scores alone.

A step is written over what is trained and what is frozen. `searching` makes it a mask search: scores are
trained, weights frozen. `training` exchanges the roles: weights are trained under a mask that is frozen.
No method, arch or dataset is named here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from supermask import masks
from supermask.engine.sharding import Layout
from supermask.types import Array, Clock, Method, Model, Tree

Parametrise = Callable[[Tree, Tree, Array, Array], tuple[Tree, Array]]
"""(trained and carried, frozen, key, progress) -> (effective weights, penalty)."""


class Rule(NamedTuple):
    """How what is trained becomes effective weights, and what happens after each step.

    Attributes:
        settle: (trained and carried, the same before the step, frozen, key, clock) -> the first, settled.
        restarts: (clock) -> whether the optimiser's moments start anew.
    """

    parametrise: Parametrise
    settle: Callable[[Tree, Tree, Tree, Array, Clock], Tree] = lambda after, before, frozen, key, clock: after
    restarts: Callable[[Clock], Array | bool] = lambda clock: False


class State(NamedTuple):
    """What changes from step to step: `carried` moves with what is trained, but without gradient or optimiser."""

    trained: Tree
    optimiser: Any
    stats: Tree
    carried: Tree = {}  # noqa: RUF012 - never changed in place


def effective(method: Method, weights: Tree, mask: Tree) -> Tree:
    """weights | mask * weights, or whatever the method makes of the two; float32 throughout."""
    return weights | method.effective({name: weights[name] for name in mask}, mask)


def searching(method: Method) -> Rule:
    """Scores are trained, weights are frozen."""

    def chosen(scores: Tree, weights: Tree) -> Tree:
        return {name: weights[name] for name in scores if name in weights}

    def parametrise(scores: Tree, weights: Tree, key: Array, progress: Array) -> tuple[Tree, Array]:
        mask = method.mask(scores, chosen(scores, weights), key=key, progress=progress)
        return effective(method, weights, mask), jnp.asarray(method.penalty(scores, progress=progress), jnp.float32)

    def settle(scores: Tree, before: Tree, weights: Tree, key: Array, clock: Clock) -> Tree:
        return method.settle(scores, before, chosen(scores, weights), key=key, clock=clock)

    return Rule(parametrise, settle, method.restarts)


def _train(weights: Tree, mask: Tree, key: Array, progress: Array) -> tuple[Tree, Array]:
    return weights | {name: weights[name] * mask[name] for name in mask}, jnp.float32(0)


training = Rule(_train)
"""Weights are trained, a mask (possibly {}: dense) is frozen."""


def loss(model: Model, weights: Tree, stats: Tree, x: Array, y: Array) -> tuple[Array, tuple[Tree, Array]]:
    """Summed cross-entropy of a batch; beside it the new stats and the number of correct images."""
    logits, stats = model.apply(weights, stats, x, True)
    logits = logits.astype(jnp.float32)
    correct = jnp.sum(logits.argmax(-1) == y, dtype=jnp.int32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).sum(), (stats, correct)


def gradient(
    model: Model, weights: Tree, stats: Tree, x: Array, y: Array, cuts: tuple[int, ...] = ()
) -> tuple[Any, Tree]:
    """((summed loss, (stats, correct)), gradient of the summed loss) of a batch.

    The batch goes through in cuts[0] pieces, each of them in cuts[1], and so on, and their sums are added up: exact
    for nets without batch statistics, and on a CPU a small piece stays in the cache.
    """
    if not cuts:
        return jax.value_and_grad(loss, argnums=1, has_aux=True)(model, weights, stats, x, y)
    pieces, finer = cuts[0], cuts[1:]
    if pieces == 1:
        return gradient(model, weights, stats, x, y, finer)

    def piece(total: Any, batch: tuple[Array, Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, gradient(model, weights, stats, *batch, finer)), None

    zero = ((jnp.float32(0), (stats, jnp.int32(0))), jax.tree.map(jnp.zeros_like, weights))
    split = jax.tree.map(lambda a: a.reshape(pieces, -1, *a.shape[1:]), (x, y))
    return lax.scan(piece, zero, split)[0]


def step(
    rule: Rule,
    model: Model,
    optimiser: optax.GradientTransformation,
    state: State,
    frozen: Tree,
    batch: tuple[Array, Array],
    *,
    key: Array,
    clock: Clock,
    cuts: tuple[int, ...] = (),
    axis: str | None = None,
) -> tuple[State, tuple[Array, Array]]:
    """One step; also the batch's (summed cross-entropy, number of correct images).

    The mask is made once, whatever the number of micro-batches: the gradient is first gathered with respect to
    the effective weights, then pulled back to what is trained. Inside `jax.shard_map`, `batch` is the device's
    share of it and the sums are taken over the devices of the mesh's `axis`.
    """
    x, y = batch
    count = len(y)
    before, carried = state.trained, state.carried
    (weights, _), pull_back = jax.vjp(
        lambda trained: rule.parametrise(trained | carried, frozen, key, clock.progress), before
    )
    (total, (stats, correct)), slope = gradient(model, weights, state.stats, x, y, cuts)
    if axis is not None:
        total, correct, slope = lax.psum((total, correct, slope), axis)
        count *= lax.axis_size(axis)
    mean_slope = jax.tree.map(lambda g: g / count, slope)
    (slope,) = pull_back((mean_slope, jnp.float32(1)))
    updates, moments = optimiser.update(slope, state.optimiser, before)
    moved = optax.apply_updates(before, updates)
    other_key = jax.random.fold_in(key, 1)
    settled = rule.settle(moved | carried, before | carried, frozen, other_key, clock)
    trained, carried = ({name: settled[name] for name in tree} for tree in (before, carried))
    anew = rule.restarts(clock)
    if anew is not False:
        moments = lax.cond(anew, lambda: _restarted(optimiser, moments, trained), lambda: moments)
    return State(trained, moments, stats, carried), (total, correct)


def _restarted(optimiser: optax.GradientTransformation, moments: Any, trained: Tree) -> Any:
    """The optimiser's state as at the start, but for its count of steps, which the learning rate follows."""
    fresh = optimiser.init(trained)
    keep = optax.ScaleByScheduleState
    return jax.tree.map(
        lambda old, new: old if isinstance(old, keep) else new,
        moments,
        fresh,
        is_leaf=lambda leaf: isinstance(leaf, keep),
    )


def realise(mask: Tree, key: Array) -> Tree:
    """A hardened mask as float32 factors: sampled masks (uint8, 255ths) are drawn, all others only cast."""
    return {
        name: (masks.draw_255(masks.key_for(key, name), m) if m.dtype == jnp.uint8 else m).astype(jnp.float32)
        for name, m in mask.items()
    }


def score(
    method: Method,
    model: Model,
    prepare: Callable[[Array], Array],
    batch_size: int,
    weights: Tree,
    mask: Tree,
    stats: Tree,
    images: Array,
    labels: Array,
    key: Array,
    start: Array,
    stop: Array,
    layout: Layout,
) -> tuple[Array, Array]:
    """(summed cross-entropy, number of correct images) of a hardened mask in each batch of a split, exactly.

    Batches are those of the rounds start..stop-1 (int32 scalars); those of all others are 0 in the results. In a
    round every device that shares the split takes a whole batch, so that logits do not depend on their number. Images
    that the last batch lacks are made up for by the last one there is, and count for nothing.
    """
    product = effective(method, weights, realise(mask, key))
    lanes, count = score_lanes(layout), len(labels)
    lane = lax.axis_index(layout.axis) if layout.axis else 0

    def add(i: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        batch = i * lanes + lane
        place = batch * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
        there, place = place < count, jnp.minimum(place, count - 1)
        logits = model.apply(product, stats, prepare(images[place]), False)[0].astype(jnp.float32)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[place])
        correct = there & (logits.argmax(-1) == labels[place])
        loss = jnp.sum(jnp.where(there, losses, 0))
        return sums[0].at[batch].set(loss), sums[1].at[batch].set(jnp.sum(correct, dtype=jnp.int32))

    batches = -(-count // batch_size)
    sums = lax.fori_loop(start, stop, add, (jnp.zeros(batches, jnp.float32), jnp.zeros(batches, jnp.int32)))
    return lax.psum(sums, layout.axis) if layout.axis else sums


def score_lanes(layout: Layout) -> int:
    """How many batches of a split a round of `score` takes."""
    return layout.devices if layout.axis else 1
