"""VGG-like networks: pairs of 3x3 convolutions, a pool after each pair, three dense layers, no biases.

Frankle & Carbin: The Lottery Ticket Hypothesis, ICLR 2019, arXiv 1803.03635, scaled down from VGG; Conv8 from
Ramanujan et al. 2020, arXiv 1911.13299.
"""

from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from supermask.archs._sizes import require_size
from supermask.nn.pooling import max_pool_2x2
from supermask.types import Array

MEMBERS = {"conv2": {"depth": 2}, "conv4": {"depth": 4}, "conv6": {"depth": 6}, "conv8": {"depth": 8}}
FLATTENED = "dense1"  # the layer whose input is the flattened image
WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class Conv:
    """Conv2, Conv4, Conv6, Conv8: pairs with 64, 128, 256, 512 channels, then dense layers 256-256-classes.

    Attributes:
        depth: number of convolutions.
        width: factor on every hidden width.
        activation: name of a function in `jax.nn`.
    """

    depth: int = 4
    width: float = 1.0
    activation: str = "relu"

    def build(self, example: Any, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
        """Build the network for images (batch, height, width, channels).

        Raises:
            UsageError: the images are too small for the number of pools.
        """
        require_size(f"conv{self.depth}", example.shape[1:], 2 ** (self.depth // 2))
        return _Net(self, example.shape[1:], outputs, rngs)


class _Net(nnx.Module):
    def __init__(self, arch: Conv, image_shape: tuple[int, int, int], classes: int, rngs: nnx.Rngs):
        self.activation, self.depth = arch.activation, arch.depth
        height, across, channels = image_shape
        pairs = arch.depth // 2
        sizes = [max(1, int(size * arch.width)) for size in WIDTHS[:pairs] for _ in range(2)]
        for i, size in enumerate(sizes, start=1):
            setattr(self, f"conv{i}", nnx.Conv(channels, size, (3, 3), use_bias=False, rngs=rngs))
            channels = size
        features = (height >> pairs) * (across >> pairs) * channels
        hidden = max(1, int(256 * arch.width))
        self.dense1 = nnx.Linear(features, hidden, use_bias=False, rngs=rngs)
        self.dense2 = nnx.Linear(hidden, hidden, use_bias=False, rngs=rngs)
        self.head = nnx.Linear(hidden, classes, use_bias=False, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        activation = getattr(jax.nn, self.activation)
        for i in range(1, self.depth + 1):
            x = activation(getattr(self, f"conv{i}")(x))
            if i % 2 == 0:
                x = max_pool_2x2(x)
        x = x.reshape(x.shape[0], -1)
        x = activation(self.dense1(x))
        x = activation(self.dense2(x))
        return self.head(x)
