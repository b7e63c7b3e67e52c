"""Classification: cross-entropy loss; the prediction is the class with the highest logit."""

from dataclasses import dataclass

import jax.numpy as jnp
import optax

from supermask.types import Array, Sums


@dataclass(frozen=True)
class Classification:
    """Outputs are logits (batch, classes), targets are int32 labels (batch,); labels below 0 are ignored."""

    def output_shape(self, inputs: tuple[int, ...], outputs: int) -> tuple[int, ...]:
        return inputs[0], outputs

    def loss(self, outputs: Array, targets: Array) -> Sums:
        logits, counts = outputs.astype(jnp.float32), targets >= 0
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(targets, 0))
        correct = counts & (logits.argmax(-1) == targets)
        return Sums(
            loss=jnp.sum(jnp.where(counts, losses, 0)),
            correct=jnp.sum(correct, dtype=jnp.int32),
            count=jnp.sum(counts, dtype=jnp.int32),
        )
