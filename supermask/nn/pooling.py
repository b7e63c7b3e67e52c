"""Max pooling whose gradient is a few selects, and means over regions."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from supermask.nn.fusion import on_its_own


def max_pool_2x2(x: Array) -> Array:
    """Max pooling over 2x2 windows, (N, H, W, C) -> (N, H // 2, W // 2, C).

    Where several values of a window are the largest, the first (row by row) gets the gradient, as in PyTorch.
    """
    n, h, w, c = x.shape
    return _max_of_windows(x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c))


def max_pool_3x3(x: Array) -> Array:
    """Max pooling over 3x3 windows at stride 2 with a border of 1, (N, H, W, C) -> (N, ceil(H / 2), ceil(W / 2), C).

    This is the pool of the ImageNet ResNets; ties are as in `max_pool_2x2`.
    """
    return _overlapping(x.shape[1:3], x)


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

    return (on_its_own(spread, g),)


_max_of_windows.defvjp(_max_and_place, _max_backward)


# In each direction, the even rows of the input are the middle ones of a window, and the odd ones are both the last of
# that window and the first of the next: the places in [whether the row is odd, whether the window is the next].
_PLACES = np.array([[1, -9], [2, 0]])


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _overlapping(size: tuple[int, int], x: Array) -> Array:
    """The pool of `max_pool_3x3`; `size` is the input's (H, W)."""
    return _overlapping_forward(size, x)[0]


def _overlapping_forward(size: tuple[int, int], x: Array) -> tuple[Array, Array]:
    """(N, H, W, C) -> the maxima and their places 0 to 8 in the windows, row by row, both (N, h, w, C)."""
    best, column = _first_of_three(_slices(x, axis=2, border=-jnp.inf))
    of_rows, columns = _slices(best, axis=1, border=-jnp.inf), _slices(column, axis=1, border=0)
    best, row = _first_of_three(of_rows)
    return best, 3 * row + jnp.where(row == 0, columns[0], jnp.where(row == 1, columns[1], columns[2]))


def _slices(x: Array, axis: int, border: float) -> list[Array]:
    """The first, second and third of each three along an axis."""
    count = -(-x.shape[axis] // 2)
    pads = [(0, 0, 0)] * x.ndim
    pads[axis] = (1, 2 * count - x.shape[axis], 0)
    x = lax.pad(x, jnp.array(border, x.dtype), pads)
    return [lax.slice_in_dim(x, i, i + 2 * count - 1, 2, axis) for i in range(3)]


def _first_of_three(values: list[Array]) -> tuple[Array, Array]:
    """The largest, and the place of the first that is: 0, 1 or 2."""
    first, second, third = values
    later = jnp.maximum(second, third)
    place = jnp.where(first >= later, 0, jnp.where(second >= third, 1, 2))
    return jnp.maximum(first, later), place.astype(jnp.int8)


def _overlapping_backward(size: tuple[int, int], place: Array, g: Array) -> tuple[Array]:
    """Every input gets what it is the maximum of, from up to four windows; kept from being fused as above."""
    n, h, w, c = g.shape

    def gather(both: tuple[Array, Array]) -> Array:
        place, g = (jnp.pad(part, ((0, 0), (0, 1), (0, 1), (0, 0))) for part in both)
        total = jnp.zeros((), g.dtype)
        for down in range(2):
            for right in range(2):
                codes = 3 * _PLACES[:, down, None] + _PLACES[None, :, right]
                at = (slice(None), slice(down, down + h), None, slice(right, right + w), None)
                hit = place[at] == jnp.asarray(codes.reshape(1, 1, 2, 1, 2, 1), jnp.int8)
                total += jnp.where(hit, g[at], jnp.zeros((), g.dtype))
        return total.reshape(n, 2 * h, 2 * w, c)[:, : size[0], : size[1]]

    return (on_its_own(gather, (place, g)),)


_overlapping.defvjp(_overlapping_forward, _overlapping_backward)


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
