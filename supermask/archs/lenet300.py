"""LeNet-300-100: dense layers of 300 and 100 units, no biases.

LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, Proc. IEEE 1998.
"""

import math
from collections.abc import Callable

import jax
from flax import nnx

from supermask.types import Array

FLATTENED = "dense1"  # the layer that sees the flattened image


class Lenet300(nnx.Module):
    """Pixels-300-100-classes."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        width: float,
        rngs: nnx.Rngs,
        activation: Callable[[Array], Array] = jax.nn.relu,
    ):
        self.activation = activation
        first, second = (max(1, int(size * width)) for size in (300, 100))
        self.dense1 = nnx.Linear(math.prod(image_shape), first, use_bias=False, rngs=rngs)
        self.dense2 = nnx.Linear(first, second, use_bias=False, rngs=rngs)
        self.head = nnx.Linear(second, classes, use_bias=False, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = x.reshape(x.shape[0], -1)
        x = self.activation(self.dense1(x))
        x = self.activation(self.dense2(x))
        return self.head(x)
