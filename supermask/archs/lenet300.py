"""LeNet-300-100: dense layers of 300 and 100 units, no biases.

LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, Proc. IEEE 1998.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from supermask.types import Array

FLATTENED = "dense1"  # the layer whose input is the flattened image


@dataclass(frozen=True)
class Lenet300:
    """Dense layers pixels-300-100-classes.

    Attributes:
        width: factor on both hidden widths.
        activation: name of a function in `jax.nn`.
    """

    width: float = 1.0
    activation: str = "relu"

    def build(self, example: Any, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
        return _Net(self, math.prod(example.shape[1:]), outputs, rngs)


class _Net(nnx.Module):
    def __init__(self, arch: Lenet300, pixels: int, classes: int, rngs: nnx.Rngs):
        self.activation = arch.activation
        first, second = (max(1, int(size * arch.width)) for size in (300, 100))
        self.dense1 = nnx.Linear(pixels, first, use_bias=False, rngs=rngs)
        self.dense2 = nnx.Linear(first, second, use_bias=False, rngs=rngs)
        self.head = nnx.Linear(second, classes, use_bias=False, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        activation = getattr(jax.nn, self.activation)
        x = x.reshape(x.shape[0], -1)
        x = activation(self.dense1(x))
        x = activation(self.dense2(x))
        return self.head(x)
