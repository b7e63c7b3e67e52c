"""ResNets of ImageNet (7x7 stem and a pool), and with the 3x3 stem of CIFAR (cresnet), names as in torchvision.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016, arXiv 1512.03385; wide-resnet50-2:
Zagoruyko & Komodakis, Wide Residual Networks, BMVC 2016, arXiv 1605.07146.
"""

from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from supermask.archs._norm import norm
from supermask.archs._residual import Block, Bottleneck, Staged, conv3x3
from supermask.nn.pooling import max_pool_3x3
from supermask.types import Array

MEMBERS = {
    "resnet18": {"depth": 18, "small": False, "inner": 1},
    "resnet34": {"depth": 34, "small": False, "inner": 1},
    "resnet50": {"depth": 50, "small": False, "inner": 1},
    "resnet101": {"depth": 101, "small": False, "inner": 1},
    "wide-resnet50-2": {"depth": 50, "small": False, "inner": 2},
    "cresnet18": {"depth": 18, "small": True, "inner": 1},
    "cresnet34": {"depth": 34, "small": True, "inner": 1},
    "cresnet50": {"depth": 50, "small": True, "inner": 1},
}
TORCH_BIASES = ("fc",)
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class Resnet:
    """A stem, four stages of residual blocks with 64, 128, 256, 512 channels, the mean over the image, classes.

    Attributes:
        depth: number of layers; from 50 on, blocks are bottlenecks.
        small: whether the stem is that of CIFAR, 3x3 without a pool.
        inner: factor on the inner width of bottlenecks.
        width: factor on every hidden width.
        activation: name of a function in `jax.nn`.
        norm: what follows each convolution: none, batch, affine (batch with scale and offset), ghost,
            layer or group.
    """

    depth: int = 18
    small: bool = False
    inner: int = 1
    width: float = 1.0
    activation: str = "relu"
    norm: str = "batch"

    def build(self, example: Any, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
        return _Net(self, example.shape[-1], outputs, rngs)


class _Net(Staged):
    def __init__(self, arch: Resnet, channels: int, classes: int, rngs: nnx.Rngs):
        self.activation, self.small = arch.activation, arch.small
        widths = [max(1, int(size * arch.width)) for size in WIDTHS]
        if arch.small:
            self.conv1 = conv3x3(channels, widths[0], 1, rngs)
        else:
            self.conv1 = nnx.Conv(
                channels, widths[0], (7, 7), strides=2, padding=((3, 3), (3, 3)), use_bias=False, rngs=rngs
            )
        self.bn1 = norm(arch.norm, widths[0], rngs)

        def block(before: int, width: int, stride: int) -> nnx.Module:
            if arch.depth < 50:
                return Block(before, width, stride, arch, rngs)
            return Bottleneck(before, (width * arch.inner, 4 * width), stride, arch, rngs)

        channels = self.add_stages(BLOCKS[arch.depth], widths, widths[0], block)
        self.fc = nnx.Linear(channels, classes, use_bias=False, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = getattr(jax.nn, self.activation)(self.bn1(self.conv1(x)))
        x = self.apply_stages(x if self.small else max_pool_3x3(x))
        return self.fc(x.mean((1, 2)))
