"""Max pooling whose gradient is one select, and means over regions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from supermask.nn import winograd


def max_pool_2x2(x: Array) -> Array:
    """Max pooling over 2x2 windows, (N, H, W, C) -> (N, H // 2, W // 2, C).

    Where several values of a window are the largest, the first (row by row) gets the gradient, as in PyTorch.
    """
    n, h, w, c = x.shape
    return _max_of_windows(x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c))


@jax.custom_vjp
def _max_of_windows(x: Array) -> Array:
    return _max_and_place(x)[0]


def _max_and_place(x: Array) -> tuple[Array, Array]:
    """(N, H, 2, W, 2, C) -> the maxima and their places in the windows, both (N, H, W, C).

    A place is 0, 1, 2 or 3, row by row: that of the first value that equals the maximum.
    """
    first, second, third, fourth = (x[:, :, i, :, j] for i in range(2) for j in range(2))
    upper, lower = jnp.maximum(first, second), jnp.maximum(third, fourth)
    upper_first = jnp.where(first >= second, 0, 1)
    lower_first = jnp.where(third >= fourth, 2, 3)
    return jnp.maximum(upper, lower), jnp.where(upper >= lower, upper_first, lower_first).astype(jnp.int8)


def _max_backward(place: Array, g: Array) -> tuple[Array]:
    # One select over the whole input replaces the sums over equal maxima that autodiff would produce. It is kept from
    # being fused, because then whatever made g would be computed four times.
    def spread(g: Array) -> Array:
        hit = place[:, :, None, :, None] == jnp.arange(4, dtype=jnp.int8).reshape(1, 1, 2, 1, 2, 1)
        return jnp.where(hit, g[:, :, None, :, None], jnp.zeros((), g.dtype))

    return (winograd.on_its_own(spread, g),)


_max_of_windows.defvjp(_max_and_place, _max_backward)


def adaptive_mean(x: Array, size: int) -> Array:
    """Means over size x size regions that cover the image, (N, H, W, C) -> (N, size, size, C), as in PyTorch.

    Region i of a side of n pixels begins at floor(i n / size) and ends at ceil((i + 1) n / size), so regions overlap
    where `size` does not divide n, and repeat where it is larger.
    """
    if x.shape[1:3] == (size, size):
        return x
    down, across = (jnp.asarray(_regions(n, size), x.dtype) for n in x.shape[1:3])
    return jnp.einsum("nhwc,ih,jw->nijc", x, down, across)


def _regions(pixels: int, size: int) -> np.ndarray:
    """(size, pixels): the share of each pixel in each mean."""
    begin = np.arange(size) * pixels // size
    end = -(-np.arange(1, size + 1) * pixels // size)
    place = np.arange(pixels)
    inside = (begin[:, None] <= place) & (place < end[:, None])
    return inside / inside.sum(1, keepdims=True)
