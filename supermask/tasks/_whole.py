"""Whole answers: what a sequence of questions and answers is worth to whoever needs all of its tokens."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from supermask.types import Array, Split, Sums


@dataclass(frozen=True)
class WholeAnswers:
    """Outputs and targets as of `next_token`; a sequence is one prediction, correct if every token asked for is. It is
    no loss to train by: that is 0."""

    def output_shape(self, inputs: tuple[int, ...], outputs: int) -> tuple[int, ...]:
        return inputs[0], inputs[1], outputs

    def loss(self, outputs: Array, targets: Array) -> Sums:
        asked = targets >= 0
        wrong = asked & (outputs.astype(jnp.float32).argmax(-1) != targets)
        counts = asked.any(-1)
        return Sums(
            loss=jnp.float32(0),
            correct=jnp.sum(counts & ~wrong.any(-1), dtype=jnp.int32),
            count=jnp.sum(counts, dtype=jnp.int32),
        )


def has_answers(split: Split) -> bool:
    """Whether answers of several tokens follow a question; not so in text, of which every token is asked for."""
    asked = np.asarray(split.targets) >= 0
    return asked.ndim > 1 and bool((asked.sum(1) > 1).any()) and not asked.all()
