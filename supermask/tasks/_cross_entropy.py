"""The loss of whatever is a choice among classes."""

import jax
import jax.numpy as jnp
import optax

from supermask.types import Array, Sums


def cross_entropy(outputs: Array, targets: Array, smoothing: float = 0.0) -> Sums:
    """Sums over logits (..., classes) and int32 targets (...); a target below 0 counts for nothing.

    Args:
        outputs: the logits.
        targets: the classes.
        smoothing: share of each target that is spread evenly over all classes, its own among them (Szegedy et al. 2016,
            section 7). It changes the loss alone.
    """
    logits, counts = outputs.astype(jnp.float32), targets >= 0
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(targets, 0))
    if smoothing:
        losses = (1 - smoothing) * losses - smoothing * jax.nn.log_softmax(logits).mean(-1)
    correct = counts & (logits.argmax(-1) == targets)
    return Sums(
        loss=jnp.sum(jnp.where(counts, losses, 0)),
        correct=jnp.sum(correct, dtype=jnp.int32),
        count=jnp.sum(counts, dtype=jnp.int32),
    )
