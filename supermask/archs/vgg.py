"""VGG: stages of 3x3 convolutions, each normalised, and a 2x2 max pool after each stage.

Simonyan & Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition. ICLR 2015, arXiv 1409.1556.
vgg-small from Diffenderfer & Kailkhura 2021, arXiv 2103.09377. Parameters are named as in torchvision's vgg*_bn.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from flax import nnx

from supermask.archs._chain import Apply, Chain
from supermask.archs._norm import norm
from supermask.archs._sizes import require_size
from supermask.errors import require
from supermask.nn.pooling import adaptive_mean, max_pool_2x2
from supermask.types import Array

MEMBERS = {
    "vgg11": {"stages": ((64,), (128,), (256, 256), (512, 512), (512, 512))},
    "vgg13": {"stages": ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512))},
    "vgg16": {"stages": ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))},
    "vgg19": {"stages": ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512))},
    "vgg-small": {"stages": ((128, 128), (256, 256), (512, 512)), "head": "flat"},
}
FLATTENED = "classifier/0"  # the layer whose input is the flattened image
TORCH_BIASES = ("features.*", "classifier", "classifier.*")
HEADS = ("auto", "linear", "mlp")
_MAP, _HIDDEN = 7, 4096  # of the mlp


@dataclass(frozen=True)
class Vgg:
    """Convolutions, norms and pools, then one dense layer or three; no biases.

    Attributes:
        stages: channels of the convolutions of each stage.
        width: factor on every hidden width.
        activation: name of a function in `jax.nn`.
        norm: what normalises each convolution: none, batch, affine, ghost, layer or group.
        head: linear: one dense layer on the mean over the image. mlp: dense layers of 4096, 4096 and classes on a map
            of 7x7, as published for ImageNet. auto: mlp for images of at least 224x224, else linear.
    """

    stages: tuple[tuple[int, ...], ...] = ((64,), (128,), (256, 256), (512, 512), (512, 512))
    width: float = 1.0
    activation: str = "relu"
    norm: str = "batch"
    head: str = "auto"

    def build(self, example: Any, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
        """Build the network for images (batch, height, width, channels).

        Raises:
            UsageError: an option is none of its words, or the images are too small for the pools.
        """
        shape = example.shape[1:]
        name = "vgg-small" if self.head == "flat" else f"vgg{sum(map(len, self.stages)) + 3}"
        if self.head != "flat":
            require("option head", self.head, HEADS)
        require_size(name, shape, 2 ** len(self.stages))
        return _Net(self, shape, outputs, rngs)


class _Net(nnx.Module):
    def __init__(self, arch: Vgg, image_shape: tuple[int, int, int], classes: int, rngs: nnx.Rngs):
        height, across, channels = image_shape
        activation = getattr(jax.nn, arch.activation)
        layers: list[nnx.Module] = []
        for stage in arch.stages:
            for published in stage:
                size = max(1, int(published * arch.width))
                layers.append(nnx.Conv(channels, size, (3, 3), use_bias=False, rngs=rngs))
                # Without norms, torchvision's vgg16 has none in its numbering either.
                layers += [norm(arch.norm, size, rngs)] if arch.norm != "none" else []
                layers.append(Apply(activation))
                channels = size
            layers.append(Apply(max_pool_2x2))
        self.features = Chain(layers)
        dense = partial(nnx.Linear, use_bias=False, rngs=rngs)
        head = arch.head if arch.head != "auto" else "mlp" if min(height, across) >= 224 else "linear"
        self.head = head
        if head == "linear":
            self.classifier: Any = dense(channels, classes)
        elif head == "flat":
            pools = len(arch.stages)
            self.classifier = Chain([dense((height >> pools) * (across >> pools) * channels, classes)])
        else:
            hidden, act, dropped = max(1, int(_HIDDEN * arch.width)), Apply(activation), Apply(_same)
            first, second = dense(_MAP * _MAP * channels, hidden), dense(hidden, hidden)
            self.classifier = Chain([first, act, dropped, second, act, dropped, dense(hidden, classes)])

    def __call__(self, x: Array) -> Array:
        x = self.features(x)
        if self.head == "linear":
            return self.classifier(x.mean((1, 2)))
        if self.head == "mlp":
            x = adaptive_mean(x, _MAP)
        return self.classifier(x.reshape(len(x), -1))


def _same(x: Array) -> Array:
    """Where torchvision has dropout."""
    return x
