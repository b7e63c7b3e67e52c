"""Wide ResNets of CIFAR: norm and activation come before each convolution; wrn-28-10 is 28 layers, 10 times as wide.

Zagoruyko & Komodakis: Wide Residual Networks, BMVC 2016, arXiv 1605.07146.
"""

from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from supermask.archs._norm import norm
from supermask.archs._residual import Staged, conv1x1, conv3x3
from supermask.errors import UsageError
from supermask.types import Array

MEMBERS = {
    "wrn-16": {"depth": 16},
    "wrn-16-2": {"depth": 16, "widen": 2},
    "wrn-16-4": {"depth": 16, "widen": 4},
    "wrn-16-8": {"depth": 16, "widen": 8},
    "wrn-28": {"depth": 28},
    "wrn-28-2": {"depth": 28, "widen": 2},
    "wrn-28-4": {"depth": 28, "widen": 4},
    "wrn-28-10": {"depth": 28, "widen": 10},
}
TORCH_BIASES = ("fc",)
WIDTHS = (16, 32, 64)


@dataclass(frozen=True)
class Wrn:
    """A 3x3 convolution, three stages with 16, 32, 64 times `widen` channels, the mean over the image, classes.

    Attributes:
        depth: number of layers.
        widen: factor on the width of the blocks.
        width: factor on every hidden width.
        activation: name of a function in `jax.nn`.
        norm: what precedes each convolution of a block: none, batch, affine (batch with scale and offset), ghost,
            layer or group.
    """

    depth: int = 28
    widen: int = 1
    width: float = 1.0
    activation: str = "relu"
    norm: str = "batch"

    def build(self, example: Any, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
        """Build the network for images (batch, height, width, channels).

        Raises:
            UsageError: the norm is unknown, or widen is below 1.
        """
        if self.widen < 1:
            raise UsageError(f"option widen is {self.widen}; it must be 1 or more")
        return _Net(self, example.shape[-1], outputs, rngs)


class _Block(nnx.Module):
    """Two 3x3 convolutions beside a shortcut; a projection sees what is already normalised, and has no norm itself."""

    def __init__(self, before: int, width: int, stride: int, arch: Wrn, rngs: nnx.Rngs):
        self.activation, self.channels = arch.activation, width
        self.bn1, self.conv1 = norm(arch.norm, before, rngs), conv3x3(before, width, stride, rngs)
        self.bn2, self.conv2 = norm(arch.norm, width, rngs), conv3x3(width, width, 1, rngs)
        same = stride == 1 and before == width
        self.downsample = None if same else nnx.List([conv1x1(before, width, stride, rngs)])

    def __call__(self, x: Array) -> Array:
        activation = getattr(jax.nn, self.activation)
        ready = activation(self.bn1(x))
        y = self.conv2(activation(self.bn2(self.conv1(ready))))
        return y + (x if self.downsample is None else self.downsample[0](ready))


class _Net(Staged):
    def __init__(self, arch: Wrn, channels: int, classes: int, rngs: nnx.Rngs):
        self.activation = arch.activation
        stem = max(1, int(WIDTHS[0] * arch.width))
        widths = [max(1, int(size * arch.widen * arch.width)) for size in WIDTHS]
        self.conv1 = conv3x3(channels, stem, 1, rngs)

        def block(before: int, width: int, stride: int) -> nnx.Module:
            return _Block(before, width, stride, arch, rngs)

        channels = self.add_stages([(arch.depth - 4) // 6] * 3, widths, stem, block)
        self.bn = norm(arch.norm, channels, rngs)
        self.fc = nnx.Linear(channels, classes, use_bias=False, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = getattr(jax.nn, self.activation)(self.bn(self.apply_stages(self.conv1(x))))
        return self.fc(x.mean((1, 2)))
