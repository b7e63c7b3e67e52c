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
from supermask.layout import Layout
from supermask.types import Array, Method, Model, Tree

Parametrise = Callable[[Tree, Tree, Array, Array], tuple[Tree, Array]]
"""(trained, frozen, key, progress) -> (effective weights, penalty)."""


class State(NamedTuple):
    """What changes from step to step."""

    trained: Tree
    optimiser: Any
    stats: Tree


def effective(method: Method, weights: Tree, mask: Tree) -> Tree:
    """weights | mask * weights, the method's transform applied; float32 throughout."""
    chosen = method.transform({name: weights[name] for name in mask}, mask)
    return weights | {name: chosen[name] * mask[name] for name in mask}


def searching(method: Method) -> Parametrise:
    """Scores are trained, weights are frozen."""

    def parametrise(scores: Tree, weights: Tree, key: Array, progress: Array) -> tuple[Tree, Array]:
        chosen = {name: weights[name] for name in scores}
        mask = method.mask(scores, chosen, key=key, progress=progress)
        return effective(method, weights, mask), jnp.asarray(method.penalty(scores), jnp.float32)

    return parametrise


def training(weights: Tree, mask: Tree, key: Array, progress: Array) -> tuple[Tree, Array]:
    """Weights are trained, a mask (possibly {}: dense) is frozen."""
    return weights | {name: weights[name] * mask[name] for name in mask}, jnp.float32(0)


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
    parametrise: Parametrise,
    model: Model,
    optimiser: optax.GradientTransformation,
    state: State,
    frozen: Tree,
    batch: tuple[Array, Array],
    *,
    key: Array,
    progress: Array,
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
    (weights, _), pull_back = jax.vjp(lambda trained: parametrise(trained, frozen, key, progress), state.trained)
    (total, (stats, correct)), slope = gradient(model, weights, state.stats, x, y, cuts)
    if axis is not None:
        total, correct, slope = lax.psum((total, correct, slope), axis)
        count *= lax.axis_size(axis)
    mean_slope = jax.tree.map(lambda g: g / count, slope)
    (slope,) = pull_back((mean_slope, jnp.float32(1)))
    updates, moments = optimiser.update(slope, state.optimiser, state.trained)
    return State(optax.apply_updates(state.trained, updates), moments, stats), (total, correct)


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
    layout: Layout,
) -> tuple[Array, Array]:
    """(summed cross-entropy, number of correct images) of a hardened mask over a whole split, exactly.

    The last batch is padded with labels of -1, which count for nothing; devices that share a split take whole
    batches of it, so that logits do not depend on their number.
    """
    product = effective(method, weights, realise(mask, key))
    padding = -len(labels) % (batch_size * (layout.devices if layout.axis else 1))
    images = jnp.pad(images, ((0, padding), (0, 0), (0, 0), (0, 0))).reshape(-1, batch_size, *images.shape[1:])
    labels = jnp.pad(labels, (0, padding), constant_values=-1).reshape(-1, batch_size)
    images, labels = layout.share(images), layout.share(labels)

    def add(total: tuple[Array, Array], batch: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        x, y = batch
        logits = model.apply(product, stats, prepare(x), False)[0].astype(jnp.float32)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(y, 0))
        correct = jnp.sum(logits.argmax(-1) == y, dtype=jnp.int32)
        return (total[0] + jnp.sum(jnp.where(y >= 0, losses, 0)), total[1] + correct), None

    total = lax.scan(add, (jnp.float32(0), jnp.int32(0)), (images, labels))[0]
    return lax.psum(total, layout.axis) if layout.axis else total
