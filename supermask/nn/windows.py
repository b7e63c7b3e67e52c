"""What a kernel sees: slices of the input, or of an input that is upsampled with zeros. Channels are the last axis."""

import itertools
import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array, lax

Pads = Sequence[tuple[int, int]]
Sizes = Sequence[int]


def padded(x: Array, pads: Pads, interior: Sizes | None = None) -> Array:
    """(N, ..., C) with zeros around it, and between its elements; a negative number of zeros crops."""
    between = interior or (0,) * len(pads)
    config = [(low, high, gap) for (low, high), gap in zip(pads, between, strict=True)]
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *config, (0, 0, 0)))


def output_size(size: Sizes, kernel: Sizes, stride: Sizes, pads: Pads, dilation: Sizes) -> tuple[int, ...]:
    """The number of positions of the kernel along each axis."""
    return tuple(
        max(0, (n + low + high - (k - 1) * d - 1) // s + 1)
        for n, k, s, (low, high), d in zip(size, kernel, stride, pads, dilation, strict=True)
    )


def strided(x: Array, start: Sizes, count: Sizes, step: Sizes) -> Array:
    """The `count` elements at start, start + step, ... along each axis between the first and the last."""
    limits = [first + (n - 1) * s + 1 for first, n, s in zip(start, count, step, strict=True)]
    return lax.slice(x, (0, *start, 0), (x.shape[0], *limits, x.shape[-1]), (1, *step, 1))


def windows(x: Array, kernel: Sizes, stride: Sizes, pads: Pads, dilation: Sizes) -> list[Array]:
    """For each position in the kernel, row by row, the (N, ..., C) inputs that it is multiplied by."""
    count = output_size(x.shape[1:-1], kernel, stride, pads, dilation)
    x = padded(x, pads)
    places = itertools.product(*(range(0, k * d, d) for k, d in zip(kernel, dilation, strict=True)))
    return [strided(x, place, count, stride) for place in places]


def patches(x: Array, kernel: Sizes, stride: Sizes, pads: Pads, dilation: Sizes) -> Array:
    """im2col: for each output the inputs that it depends on, (N, ..., positions in the kernel * C)."""
    count = output_size(x.shape[1:-1], kernel, stride, pads, dilation)
    if math.prod(kernel) == 1:
        return windows(x, kernel, stride, pads, dilation)[0]
    if tuple(kernel) == tuple(stride) and set(dilation) == {1}:
        return _tiles(x, kernel, pads, count)
    if math.prod(kernel) <= max(_FEW, math.prod(count)):
        return jnp.concatenate(windows(x, kernel, stride, pads, dilation), axis=-1)
    x = padded(x, pads)  # a kernel that is larger than the output, as of a kernel's gradient: a slice for each output
    places = itertools.product(*(range(0, n * s, s) for n, s in zip(count, stride, strict=True)))
    rows = [strided(x, place, kernel, dilation).reshape(len(x), -1) for place in places]
    return jnp.stack(rows, axis=1).reshape(len(x), *count, -1)


_FEW = 128  # slices that are as many as this compile fast


def num_slices(kernel: Sizes, stride: Sizes, dilation: Sizes, count: Sizes) -> int:
    """The number of slices that `patches` is made of."""
    if tuple(kernel) == tuple(stride) and set(dilation) == {1}:
        return 1
    return min(math.prod(kernel), max(_FEW, math.prod(count)))


def _tiles(x: Array, kernel: Sizes, pads: Pads, count: Sizes) -> Array:
    """Windows that lie side by side are a reshape."""
    crop = [(low, n * k - size - low) for size, k, n, (low, _) in zip(x.shape[1:-1], kernel, count, pads, strict=True)]
    pairs = [length for pair in zip(count, kernel, strict=True) for length in pair]
    axes = range(1, 2 * len(count) + 1)
    tiles = padded(x, crop).reshape(len(x), *pairs, -1).transpose(0, *axes[::2], *axes[1::2], 2 * len(count) + 1)
    return tiles.reshape(len(x), *count, -1)


def upsampled(convolve: Callable[[Array, Array, Pads], Array], x: Array, kernel: Array, up: Sizes, pads: Pads) -> Array:
    """Convolve `x` with `up - 1` zeros between its elements, by `convolve(x, kernel, pads)` of stride 1.

    Of each `up` outputs in a row, each sees another part of the kernel and no zero of those between the elements. So
    every such phase is a convolution of `x` itself with a part of the kernel, and the phases are interleaved.
    """
    spatial = range(len(up))
    size, length = x.shape[1:-1], kernel.shape[:-2]
    out = [(n - 1) * u + 1 + low + high - k + 1 for n, u, (low, high), k in zip(size, up, pads, length, strict=True)]
    count = [-(-o // u) for o, u in zip(out, up, strict=True)]
    found = []
    for phase in itertools.product(*map(range, up)):
        first = [(pads[d][0] - phase[d]) % up[d] for d in spatial]
        part = kernel[tuple(slice(f, None, u) for f, u in zip(first, up, strict=True))]
        low = [(pads[d][0] - phase[d] - first[d]) // up[d] for d in spatial]
        high = [count[d] - size[d] - low[d] + part.shape[d] - 1 for d in spatial]
        if part.size:
            found.append(convolve(x, part, list(zip(low, high, strict=True))))
        else:  # the stride is larger than the kernel
            found.append(jnp.zeros((len(x), *count, kernel.shape[-1]), x.dtype))
    phases = jnp.stack(found).reshape(*up, len(x), *count, -1)
    rank = len(up)
    order = [rank, *(axis for d in spatial for axis in (rank + 1 + d, d)), 2 * rank + 1]
    whole = phases.transpose(order).reshape(len(x), *(n * u for n, u in zip(count, up, strict=True)), -1)
    return strided(whole, (0,) * rank, out, (1,) * rank)
