"""ConvNeXt: stages of blocks with a 7x7 convolution of each channel, a layer norm and two dense layers with GELU.

Liu, Mao, Wu, Feichtenhofer, Darrell, Xie: A ConvNet for the 2020s. CVPR 2022, arXiv 2201.03545. Parameters are named as
in timm.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from supermask.archs._chain import Chain
from supermask.archs._norm import Identity, norm
from supermask.archs._sizes import require_size
from supermask.errors import UsageError
from supermask.types import Array

MEMBERS = {"convnext-tiny": {"depths": (3, 3, 9, 3), "dims": (96, 192, 384, 768)}}
TORCH_BIASES = ("stem.0", "stages.*.downsample.1", "stages.*.blocks.*.conv_dw", "stages.*.blocks.*.mlp.*", "head.fc")
TORCH_NORMS = {
    "stem.1": "after stem.0",
    "stages.*.downsample.0": "before stages.*.downsample.1",
    "stages.*.blocks.*.norm": "after stages.*.blocks.*.conv_dw",
    "head.norm": "before head.fc",
}


@dataclass(frozen=True)
class Convnext:
    """A convolution of patches, four stages of blocks, a mean over the image, a dense layer; no biases.

    Attributes:
        depths: number of blocks of each stage.
        dims: channels of each stage.
        width: factor on every hidden width.
        norm: what normalises: none, batch, ghost, layer or group, or affine for a layer norm with scale and bias.
        patch: height and width of a patch of the stem in pixels; the stages divide the image by 8 more. 0 takes 4 for
            images of at least 64x64, as published, 2 for those of at least 32x32, else 1.
        layer_scale: the factors on each block, which stay as they begin. 1e-6, as published, would close the blocks.
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)
    dims: tuple[int, ...] = (96, 192, 384, 768)
    width: float = 1.0
    norm: str = "layer"
    patch: int = 0
    layer_scale: float = 1.0

    def build(self, example: Any, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
        """Build the network for images (batch, height, width, channels).

        Raises:
            UsageError: the images are too small for the patch and the stages, or the patch is negative.
        """
        shape = example.shape[1:]
        if self.patch < 0:
            raise UsageError(f"option patch is {self.patch}; it must be at least 1, or 0 for what suits the images")
        patch = self.patch or next((size for size in (4, 2) if min(shape[:2]) >= 16 * size), 1)
        reduced = 2 ** (len(self.depths) - 1)
        fitting = min(shape[:2]) // reduced
        instead = f", or -a patch={fitting}" if 0 < fitting < patch else ""
        require_size(f"convnext with patches of {patch}", shape, patch * reduced, instead)
        return _Net(self, shape[-1], patch, outputs, rngs)


class _Net(nnx.Module):
    def __init__(self, arch: Convnext, channels: int, patch: int, classes: int, rngs: nnx.Rngs):
        sizes = [max(1, int(dim * arch.width)) for dim in arch.dims]
        self.stem = Chain([_patches(channels, sizes[0], patch, rngs), _norm(arch, sizes[0], rngs)])
        before = [0, *sizes]
        self.stages = Chain([_Stage(arch, i, (before[i], sizes[i]), rngs) for i in range(len(sizes))])
        self.head = _Head(arch, sizes[-1], classes, rngs)

    def __call__(self, x: Array) -> Array:
        return self.head(self.stages(self.stem(x)))


class _Stage(nnx.Module):
    """Halves the image, except for the first stage, and applies the blocks."""

    def __init__(self, arch: Convnext, place: int, sizes: tuple[int, int], rngs: nnx.Rngs):
        inputs, outputs = sizes
        self.downsample: nnx.Module = Identity()
        if place:
            self.downsample = Chain([_norm(arch, inputs, rngs), _patches(inputs, outputs, 2, rngs)])
        self.blocks = Chain([_Block(arch, outputs, rngs) for _ in range(arch.depths[place])])

    def __call__(self, x: Array) -> Array:
        return self.blocks(self.downsample(x))


class _Block(nnx.Module):
    def __init__(self, arch: Convnext, dim: int, rngs: nnx.Rngs):
        alone: dict[str, Any] = {"padding": 3, "feature_group_count": dim, "use_bias": False, "rngs": rngs}
        self.conv_dw = nnx.Conv(dim, dim, (7, 7), **alone)
        self.norm = _norm(arch, dim, rngs)
        self.mlp = _Mlp(dim, rngs)
        self.gamma = nnx.Param(jnp.full(dim, arch.layer_scale))

    def __call__(self, x: Array) -> Array:
        return x + self.mlp(self.norm(self.conv_dw(x))) * self.gamma[...].astype(x.dtype)


class _Mlp(nnx.Module):
    def __init__(self, dim: int, rngs: nnx.Rngs):
        dense = partial(nnx.Linear, use_bias=False, rngs=rngs)
        self.fc1, self.fc2 = dense(dim, 4 * dim), dense(4 * dim, dim)

    def __call__(self, x: Array) -> Array:
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


class _Head(nnx.Module):
    def __init__(self, arch: Convnext, dim: int, classes: int, rngs: nnx.Rngs):
        self.norm = _norm(arch, dim, rngs)
        self.fc = nnx.Linear(dim, classes, use_bias=False, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return self.fc(self.norm(x.mean((1, 2))))


def _patches(inputs: int, outputs: int, size: int, rngs: nnx.Rngs) -> nnx.Module:
    """A convolution of patches that lie side by side."""
    window = (size, size)
    return nnx.Conv(inputs, outputs, window, strides=window, padding="VALID", use_bias=False, rngs=rngs)


def _norm(arch: Convnext, dim: int, rngs: nnx.Rngs) -> nnx.Module:
    return norm(arch.norm, dim, rngs, affine="layer", epsilon=1e-6)
