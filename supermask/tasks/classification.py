"""Classification: cross-entropy loss; the prediction is the class with the highest logit."""

from dataclasses import dataclass

from supermask.tasks._cross_entropy import cross_entropy
from supermask.types import Array, Sums


@dataclass(frozen=True)
class Classification:
    """Outputs are logits (batch, classes), targets are int32 labels (batch,); labels below 0 are ignored.

    Attributes:
        label_smoothing: share of each target that is spread evenly over all classes.
    """

    label_smoothing: float = 0.0

    def output_shape(self, inputs: tuple[int, ...], outputs: int) -> tuple[int, ...]:
        return inputs[0], outputs

    def loss(self, outputs: Array, targets: Array) -> Sums:
        return cross_entropy(outputs, targets, self.label_smoothing)
