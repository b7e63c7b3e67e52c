"""Residual blocks and stages, with torchvision's names: `layer1/0/conv1`, `layer2/0/downsample/0`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from supermask.archs._norm import norm
from supermask.types import Array

Make = Callable[[int, int, int], Any]


def conv3x3(before: int, after: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    """Make a 3x3 convolution with a border of 1, as PyTorch's `padding=1`; `SAME` has another at stride 2."""
    return nnx.Conv(before, after, (3, 3), strides=stride, padding=((1, 1), (1, 1)), use_bias=False, rngs=rngs)


def conv1x1(before: int, after: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    """Make a 1x1 convolution."""
    return nnx.Conv(before, after, (1, 1), strides=stride, padding="VALID", use_bias=False, rngs=rngs)


def shortcut(before: int, after: int, stride: int, kind: str, rngs: nnx.Rngs) -> nnx.List | None:
    """Make the projection of a block whose shape changes (option B of He et al.), or None if the input stays as it is.

    Args:
        kind: the norm that follows the projection.
    """
    if stride == 1 and before == after:
        return None
    return nnx.List([conv1x1(before, after, stride, rngs), norm(kind, after, rngs)])


def without_parameters(x: Array, stride: int, channels: int) -> Array:
    """Take every second pixel and pad the channels with zeros, half on each side (option A of He et al.)."""
    more = channels - x.shape[-1]
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2)))


class Block(nnx.Module):
    """Two 3x3 convolutions beside a shortcut, which has no parameters if `padded`.

    `arch` has the fields `norm` and `activation`.
    """

    def __init__(self, before: int, width: int, stride: int, arch: Any, rngs: nnx.Rngs, *, padded: bool = False):
        self.activation, self.stride, self.channels = arch.activation, stride, width
        self.conv1, self.bn1 = conv3x3(before, width, stride, rngs), norm(arch.norm, width, rngs)
        self.conv2, self.bn2 = conv3x3(width, width, 1, rngs), norm(arch.norm, width, rngs)
        self.downsample = None if padded else shortcut(before, width, stride, arch.norm, rngs)

    def __call__(self, x: Array) -> Array:
        activation = getattr(jax.nn, self.activation)
        y = self.bn2(self.conv2(activation(self.bn1(self.conv1(x)))))
        if self.downsample is None:
            return activation(y + without_parameters(x, self.stride, self.channels))
        project, normalise = self.downsample
        return activation(y + normalise(project(x)))


class Bottleneck(nnx.Module):
    """A 1x1, a 3x3 and a 1x1 convolution beside a shortcut; the 3x3 has the stride, as in torchvision.

    `widths` are those of the first two and of the last.
    """

    def __init__(self, before: int, widths: tuple[int, int], stride: int, arch: Any, rngs: nnx.Rngs):
        inner, outer = widths
        self.activation, self.channels = arch.activation, outer
        self.conv1, self.bn1 = conv1x1(before, inner, 1, rngs), norm(arch.norm, inner, rngs)
        self.conv2, self.bn2 = conv3x3(inner, inner, stride, rngs), norm(arch.norm, inner, rngs)
        self.conv3, self.bn3 = conv1x1(inner, outer, 1, rngs), norm(arch.norm, outer, rngs)
        self.downsample = shortcut(before, outer, stride, arch.norm, rngs)

    def __call__(self, x: Array) -> Array:
        activation = getattr(jax.nn, self.activation)
        y = activation(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(activation(self.bn2(self.conv2(y)))))
        if self.downsample is None:
            return activation(y + x)
        project, normalise = self.downsample
        return activation(y + normalise(project(x)))


class Staged(nnx.Module):
    """A network with stages `layer1`, `layer2`, ... of blocks."""

    def add_stages(self, counts: Sequence[int], widths: Sequence[int], channels: int, make: Make) -> int:
        """Make the stages; all but the first halve the image in their first block.

        Args:
            counts, widths: number of blocks and width of each stage.
            channels: number of channels before the first.
            make: makes a block from the number of channels before it, a width and a stride.

        Returns:
            the number of channels after the last.
        """
        self.num_stages = len(counts)
        for i, (count, width) in enumerate(zip(counts, widths, strict=True), start=1):
            blocks: Any = nnx.List([])
            for j in range(count):
                blocks.append(make(channels, width, 2 if i > 1 and j == 0 else 1))
                channels = blocks[-1].channels
            setattr(self, f"layer{i}", blocks)
        return channels

    def apply_stages(self, x: Array) -> Array:
        """Apply all stages."""
        for i in range(1, self.num_stages + 1):
            for block in getattr(self, f"layer{i}"):
                x = block(x)
        return x
