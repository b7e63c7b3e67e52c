"""The loss of whatever is a choice among classes."""

import jax.numpy as jnp
import optax

from supermask.types import Array, Sums


def cross_entropy(outputs: Array, targets: Array) -> Sums:
    """Sums over logits (..., classes) and int32 targets (...); a target below 0 counts for nothing."""
    logits, counts = outputs.astype(jnp.float32), targets >= 0
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(targets, 0))
    correct = counts & (logits.argmax(-1) == targets)
    return Sums(
        loss=jnp.sum(jnp.where(counts, losses, 0)),
        correct=jnp.sum(correct, dtype=jnp.int32),
        count=jnp.sum(counts, dtype=jnp.int32),
    )
