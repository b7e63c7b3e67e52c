"""MobileNetV2: inverted residuals, in which a 3x3 convolution of each channel lies between two of 1x1.

Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2: Inverted Residuals and Linear Bottlenecks. CVPR 2018, arXiv
1801.04381. Parameters are named as in torchvision.
"""

from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from supermask.archs._chain import Apply, Chain
from supermask.archs._norm import norm
from supermask.errors import require
from supermask.types import Array

MEMBERS: dict[str, dict[str, Any]] = {"mobilenet-v2": {}}
TORCH_BIASES = ("classifier.1",)
STEMS = ("auto", "cifar", "imagenet")
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, number of blocks, stride of the first block."""


@dataclass(frozen=True)
class Mobilenet:
    """3x3 convolution, 17 inverted residuals, 1x1 convolution, mean over the image, dense layer; ReLU6, no biases.

    Attributes:
        width: factor on every hidden width.
        norm: what normalises each convolution: none, batch, affine, ghost, layer or group.
        stem: imagenet: the published strides, 32 in all. cifar: no stride in the first convolution and in the second
            stage, 8 in all. auto: cifar for images below 64x64, else imagenet.
    """

    width: float = 1.0
    norm: str = "batch"
    stem: str = "auto"

    def build(self, example: Any, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
        """Build the network for images (batch, height, width, channels).

        Raises:
            UsageError: an option is none of its words.
        """
        require("option stem", self.stem, STEMS)
        return _Net(self, example.shape[1:], outputs, rngs)


class _Net(nnx.Module):
    def __init__(self, arch: Mobilenet, image_shape: tuple[int, int, int], classes: int, rngs: nnx.Rngs):
        height, across, inputs = image_shape
        small = arch.stem == "cifar" or (arch.stem == "auto" and min(height, across) < 64)

        def scaled(size: int) -> int:
            return max(1, int(size * arch.width))

        channels = scaled(32)
        layers: list[nnx.Module] = [_convolution(arch, inputs, channels, 3, rngs, stride=1 if small else 2)]
        for place, (expansion, published, blocks, first) in enumerate(STAGES):
            for block in range(blocks):
                stride = first if block == 0 and not (small and place == 1) else 1
                size = scaled(published)
                layers.append(_Block(arch, (channels, expansion * channels, size), stride, rngs))
                channels = size
        last = scaled(1280)
        self.features = Chain([*layers, _convolution(arch, channels, last, 1, rngs)])
        # In torchvision dropout is the first of the two.
        self.classifier = Chain([Apply(_same), nnx.Linear(last, classes, use_bias=False, rngs=rngs)])

    def __call__(self, x: Array) -> Array:
        return self.classifier(self.features(x).mean((1, 2)))


class _Block(nnx.Module):
    """Widens, convolves each channel, narrows; what comes in is added if it has the shape of what goes out."""

    def __init__(self, arch: Mobilenet, sizes: tuple[int, int, int], stride: int, rngs: nnx.Rngs):
        inputs, hidden, outputs = sizes
        self.adds = stride == 1 and inputs == outputs
        layers = [] if hidden == inputs else [_convolution(arch, inputs, hidden, 1, rngs)]
        layers.append(_convolution(arch, hidden, hidden, 3, rngs, stride=stride, groups=hidden))
        narrow = nnx.Conv(hidden, outputs, (1, 1), use_bias=False, rngs=rngs)
        self.conv = Chain([*layers, narrow, norm(arch.norm, outputs, rngs)])

    def __call__(self, x: Array) -> Array:
        return x + self.conv(x) if self.adds else self.conv(x)


def _convolution(
    arch: Mobilenet, inputs: int, outputs: int, size: int, rngs: nnx.Rngs, *, stride: int = 1, groups: int = 1
) -> Chain:
    """Convolution, norm, ReLU6."""
    layer = nnx.Conv(
        *(inputs, outputs, (size, size)),
        strides=stride,
        padding=size // 2,
        feature_group_count=groups,
        use_bias=False,
        rngs=rngs,
    )
    return Chain([layer, norm(arch.norm, outputs, rngs), Apply(jax.nn.relu6)])


def _same(x: Array) -> Array:
    return x
