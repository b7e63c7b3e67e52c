"""Steps of a search as one compiled program."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from supermask import core
from supermask.engine.problem import Parts
from supermask.engine.sharding import Layout
from supermask.types import Array, Clock, Method, Tree

Carry = tuple[core.State, Array, Array, Array]
"""The state; over the epoch so far the summed cross-entropy (float32) and the number of correct images (int32); the
first step whose loss was not finite, or -1 (int32)."""


def epoch_order(method: Method, key: Array, epoch: Array, count: int, size: int) -> Array:
    """The order of `count` training images in an epoch: the method's own, or a fresh permutation; int32."""
    own = method.order(key, epoch, count, size)
    return jax.random.permutation(jax.random.fold_in(key, epoch), count) if own is None else own


def training_program(parts: Parts, rule: core.Rule, layout: Layout) -> Callable[..., Carry]:
    """(carry, frozen, images, labels, order, key, start, stop) -> the carry, moved on.

    For all seeds of the layout: everything but images, labels and bounds has their axis in front. Runs the steps
    start..stop-1 (int32 scalars), which lie in one epoch. Both are traced, so that one compilation serves pieces of an
    epoch of any length; the sums go in and out, so that how an epoch was cut has no influence on the result, not even
    by rounding.

    Images are uint8 and stay on the device; augmentation and normalisation are made inside. Every device augments the
    whole batch, so that its share does not depend on how many there are. `order` is the epoch's permutation; what is
    left of it after the last full batch is not used in that epoch.
    """
    steps, size = parts.steps_per_epoch, parts.batch_size

    def run(
        carry: Carry,
        frozen: Tree,
        images: Array,
        labels: Array,
        order: Array,
        key: Array,
        start: Array,
        stop: Array,
    ) -> Carry:
        def one(i: Array, carry: Carry) -> Carry:
            state, total, correct, failed = carry
            mask_key, image_key = jax.random.split(jax.random.fold_in(key, i))
            chosen = lax.dynamic_slice(order, ((i % steps) * size,), (size,))
            x = images[chosen] if parts.augment is None else parts.augment(image_key, images[chosen])
            state, (losses, right) = core.step(
                rule,
                parts.model,
                parts.optimiser,
                state,
                frozen,
                (parts.prepare(layout.share(x)), layout.share(labels[chosen])),
                key=mask_key,
                clock=Clock(i, steps, parts.total_steps),
                cuts=(layout.in_turn, parts.pieces),
                axis=layout.axis,
            )
            failed = jnp.where((failed < 0) & ~jnp.isfinite(losses), i, failed)
            return state, total + losses, correct + right, failed

        return lax.fori_loop(start, stop, one, carry)

    return layout.program(run, (True, True, False, False, True, True, False, False))
