"""Depthwise convolution, every channel by itself, as sums of products of slices.

XLA's CPU backend fuses such a sum into one loop over the channels, which lie side by side in memory, and vectorises it.
It does not vectorise a sum over all positions, of which the kernel's gradient is made. So that gradient adds up eight
neighbours of a row as slices, which is vectorised and leaves an eighth of the data, and the rest is a matrix product.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from supermask.nn import winograd
from supermask.nn.fusion import on_its_own
from supermask.nn.windows import Pads, padded, strided, upsampled, windows

Pair = tuple[int, int]
_TOGETHER = 8  # neighbours of a row that are added up as slices


class Geometry(NamedTuple):
    """How a kernel moves over an image."""

    stride: Pair
    pads: winograd.Pads
    dilation: Pair


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """Convolve (N, H, W, C) with (h, w, C), each channel with its own kernel -> (N, H', W', C)."""
    return weighted_windows(x, kernel, geometry)


def weighted_windows(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """`depthwise` without a gradient of its own."""
    pads, size = geometry.pads, kernel.shape[:2]
    x = on_its_own(lambda x: padded(x, pads), x)  # fused, the padding would be computed for each position again
    parts = windows(x, size, geometry.stride, ((0, 0), (0, 0)), geometry.dilation)
    weights = kernel.reshape(-1, 1, 1, 1, kernel.shape[-1])
    terms = [part * lax.index_in_dim(weights, i, keepdims=False) for i, part in enumerate(parts)]
    return sum(terms[1:], start=terms[0])


def _forward(x: Array, kernel: Array, geometry: Geometry) -> tuple[Array, tuple[Array, Array]]:
    return depthwise(x, kernel, geometry), (x, kernel)


def _backward(geometry: Geometry, residuals: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    return _input_gradient(g, kernel, geometry, x.shape[1:3]), _kernel_gradient(x, g, geometry, kernel.shape[:2])


depthwise.defvjp(_forward, _backward)


def _input_gradient(g: Array, kernel: Array, geometry: Geometry, size: tuple[int, ...]) -> Array:
    (stride, pads, dilation), flipped = geometry, jnp.flip(kernel, (0, 1))
    reach = [(k - 1) * d for k, d in zip(kernel.shape[:2], dilation, strict=True)]
    spread = [(n - 1) * s + 1 for n, s in zip(g.shape[1:3], stride, strict=True)]
    back = [
        (r - low, size[axis] - spread[axis] + low) for axis, (r, (low, _)) in enumerate(zip(reach, pads, strict=True))
    ]

    def convolve(g: Array, kernel: Array, pads: Pads) -> Array:
        (top, bottom), (left, right) = pads
        return weighted_windows(g, kernel, Geometry((1, 1), ((top, bottom), (left, right)), dilation))

    if stride == (1, 1):
        return convolve(g, flipped, back)
    if dilation == (1, 1):
        return upsampled(lambda g, k, pads: convolve(g, k[:, :, 0], pads), g, flipped[:, :, None], stride, back)
    return convolve(padded(g, ((0, 0), (0, 0)), [s - 1 for s in stride]), flipped, back)


def _kernel_gradient(x: Array, g: Array, geometry: Geometry, size: tuple[int, ...]) -> Array:
    (down, right), ((top, _), (left, _)), dilation = geometry
    _, h, w, channels = g.shape
    across = -(-w // _TOGETHER)
    g = padded(g, ((0, 0), (0, across * _TOGETHER - w)))
    full = [(h - 1) * down + (size[0] - 1) * dilation[0] + 1]
    full.append((across * _TOGETHER - 1) * right + (size[1] - 1) * dilation[1] + 1)
    around = ((top, full[0] - top - x.shape[1]), (left, full[1] - left - x.shape[2]))
    x = on_its_own(lambda x: padded(x, around), x)

    def row(operands: tuple[Array, Array]) -> Array:
        """For each position in a row of the kernel, the products summed over eight neighbours."""
        x, g = operands
        parts = [strided(g, (0, i), (h, across), (1, _TOGETHER)) for i in range(_TOGETHER)]
        sums = []
        for j in range(size[1]):
            places = [(0, j * dilation[1] + i * right) for i in range(_TOGETHER)]
            seen = [strided(x, place, (h, across), (down, _TOGETHER * right)) for place in places]
            terms = [a * b for a, b in zip(seen, parts, strict=True)]
            sums.append(sum(terms[1:], start=terms[0]).reshape(-1, channels))
        return jnp.stack(sums)

    def gradient(i: Array) -> Array:
        seen = lax.dynamic_slice_in_dim(x, i * dilation[0], (h - 1) * down + 1, axis=1)
        sums = on_its_own(row, (seen, g))
        return (jnp.ones((1, sums.shape[1]), sums.dtype) @ sums)[:, 0]

    return lax.map(gradient, jnp.arange(size[0]))
