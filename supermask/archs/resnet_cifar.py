"""ResNets of CIFAR: three stages with 16, 32, 64 channels, names in the manner of torchvision.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016, arXiv 1512.03385.
"""

from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from supermask.archs._norm import norm
from supermask.archs._residual import Block, Staged, conv3x3
from supermask.errors import require
from supermask.types import Array

MEMBERS = {
    "resnet20": {"depth": 20},
    "resnet32": {"depth": 32},
    "resnet44": {"depth": 44},
    "resnet56": {"depth": 56},
    "resnet110": {"depth": 110},
}
TORCH_BIASES = ("fc",)
WIDTHS = (16, 32, 64)


@dataclass(frozen=True)
class ResnetCifar:
    """A 3x3 convolution, three stages of residual blocks, the mean over the image, classes.

    Attributes:
        depth: number of layers.
        width: factor on every hidden width.
        activation: name of a function in `jax.nn`.
        norm: what follows each convolution: none, batch, affine (batch with scale and offset), ghost,
            layer or group.
        shortcut: where the shape changes, A (every second pixel, zeros for new channels) or B (1x1 convolution).
    """

    depth: int = 20
    width: float = 1.0
    activation: str = "relu"
    norm: str = "batch"
    shortcut: str = "A"

    def build(self, example: Any, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
        """Build the network for images (batch, height, width, channels).

        Raises:
            UsageError: the norm or the shortcut is unknown.
        """
        require("option shortcut", self.shortcut, ("A", "B"))
        return _Net(self, example.shape[-1], outputs, rngs)


class _Net(Staged):
    def __init__(self, arch: ResnetCifar, channels: int, classes: int, rngs: nnx.Rngs):
        self.activation = arch.activation
        widths = [max(1, int(size * arch.width)) for size in WIDTHS]
        self.conv1 = conv3x3(channels, widths[0], 1, rngs)
        self.bn1 = norm(arch.norm, widths[0], rngs)

        def block(before: int, width: int, stride: int) -> nnx.Module:
            return Block(before, width, stride, arch, rngs, padded=arch.shortcut == "A")

        channels = self.add_stages([(arch.depth - 2) // 6] * 3, widths, widths[0], block)
        self.fc = nnx.Linear(channels, classes, use_bias=False, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = getattr(jax.nn, self.activation)(self.bn1(self.conv1(x)))
        return self.fc(self.apply_stages(x).mean((1, 2)))
