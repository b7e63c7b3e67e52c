"""Next token: cross-entropy loss at every token that has a target, or at the last one if a sequence has one target."""

from dataclasses import dataclass

from supermask.tasks._cross_entropy import cross_entropy
from supermask.types import Array, Sums


@dataclass(frozen=True)
class NextToken:
    """Outputs are logits (batch, length, tokens); targets are int32 tokens (batch, length), or (batch,) for what
    follows the last token. Tokens below 0 are ignored.

    Attributes:
        label_smoothing: share of each target that is spread evenly over all tokens.
    """

    label_smoothing: float = 0.0

    def output_shape(self, inputs: tuple[int, ...], outputs: int) -> tuple[int, ...]:
        return inputs[0], inputs[1], outputs

    def loss(self, outputs: Array, targets: Array) -> Sums:
        return cross_entropy(outputs if targets.ndim > 1 else outputs[:, -1], targets, self.label_smoothing)
