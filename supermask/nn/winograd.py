"""3x3 convolution in Winograd's transformed domain, F(4x4, 3x3), in plain JAX.

Winograd, *Arithmetic Complexity of Computations* (1980); Lavin & Gray, *Fast Algorithms for Convolutional Neural
Networks* (2016, arXiv 1509.09308). For a 6x6 tile d of the input and a 3x3 kernel g, a 4x4 tile of the output is
A^T [(G g G^T) * (B^T d B)] A, summed over the channels: 36 multiplications for each pair of channels instead of 144.

The code is written in the way that XLA's CPU backend runs fast. That backend fuses all elementwise work up to the next
matrix product, and recomputes whatever a fused consumer reads more than once. An optimisation barrier does not prevent
this; the branch of a conditional does. So the first half of each transform (along the rows of the tiles) is computed in
a branch, and the second half (along their columns) is one fused sum after it. Both halves are sums of slices broadcast
along a new axis, because stacking 36 arrays takes seven times as long to compile.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from supermask.nn.fusion import SHORT_LOOP, in_vectors, on_its_own
from supermask.nn.windows import output_size, padded

TILE, WINDOW = 4, 6
Pair = tuple[int, int]
Pads = tuple[Pair, Pair]


def _matrices(a: float, b: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """B^T (6, 6), G (6, 3) and A^T (4, 6) for the interpolation points 0, a, -a, b, -b and infinity."""
    points = [0.0, a, -a, b, -b]
    others = [[q for q in points if q != p] for p in points]
    inputs, kernels, outputs = np.zeros((6, 6)), np.zeros((6, 3)), np.zeros((6, 4))
    for row, (p, rest) in enumerate(zip(points, others, strict=True)):
        inputs[row, :5] = np.poly(rest)[::-1]
        kernels[row] = p ** np.arange(3) / np.prod(p - np.array(rest))
        outputs[row] = p ** np.arange(4)
    inputs[5] = np.poly(points)[::-1]
    kernels[5, 2] = outputs[5, 3] = 1
    return inputs, kernels, outputs.T


# Lavin & Gray use the points 1 and 2. The points here are just as exact in binary and keep the norms of the matrices
# small: the largest float32 error of a 64-channel convolution is 1.2e-6 of the largest value instead of 5.3e-6.
_INPUT, _KERNEL, _OUTPUT = _matrices(5 / 8, 3 / 2)
_KERNEL_BOTH = np.einsum("ia,jb->ijab", _KERNEL, _KERNEL).reshape(WINDOW**2, 9).astype(np.float32)


def _combine(matrix: np.ndarray, slices: list[Array], axis: int) -> Array:
    """Multiply slices by a matrix, along a new axis: out[..., i, ...] = sum over k of matrix[i, k] * slices[k]."""
    shape = [1] * (slices[0].ndim + 1)
    shape[axis] = len(matrix)
    columns = [jnp.asarray(column, jnp.float32).reshape(shape) for column in matrix.T]
    terms = [column * jnp.expand_dims(part, axis) for column, part in zip(columns, slices, strict=True)]
    return sum(terms[1:], start=terms[0])


def _num_tiles(size: int) -> int:
    return -(-size // TILE)


def saves(size: Sequence[int]) -> bool:
    """Whether an output of this size takes a third fewer products than directly: tiles may be half empty."""
    height, width = size
    return 3 * WINDOW**2 * _num_tiles(height) * _num_tiles(width) <= 2 * 9 * height * width


def _one_per_tile(x: Array, first: int, count: int, axis: int) -> Array:
    """The slice of `x` at first, first + 4, ... along an axis: the same position in each of `count` tiles."""
    return lax.slice_in_dim(x, first, first + TILE * (count - 1) + 1, TILE, axis)


def _padded(x: Array, before: Pair, size: Pair) -> Array:
    """Float32 (N, *size, C): zeros before the rows and columns, and after them up to a size."""
    sides = [(low, whole - low - own) for low, whole, own in zip(before, size, x.shape[1:3], strict=True)]
    return padded(in_vectors(x.astype(jnp.float32)), sides)


def _along_both(matrix: np.ndarray, x: Array, first: Pair, tiles: Pair) -> Array:
    """Padded (N, H, W, C) -> (36, N * tiles, C): M d M^T of the tiles d as large as the matrix is wide."""
    (top, left), (rows, columns), width = first, tiles, matrix.shape[1]

    def along_rows(x: Array) -> Array:
        return _combine(matrix, [_one_per_tile(x, top + i, rows, axis=1) for i in range(width)], axis=0)

    half = on_its_own(along_rows, x)  # (6, N, rows, W, C)
    out = _combine(matrix, [_one_per_tile(half, left + j, columns, axis=3) for j in range(width)], axis=1)
    return out.reshape(WINDOW**2, -1, x.shape[-1])


# The transforms are traced once for each shape, not for each convolution.


@partial(jax.jit, static_argnums=(1, 2), inline=True)
def _transform_input(x: Array, first: Pair, tiles: Pair) -> Array:
    """B^T d B of tiles that overlap by two, from the element `first` of a padded input on."""
    return _along_both(_INPUT, x, first, tiles)


@partial(jax.jit, static_argnums=(1, 2), inline=True)
def _transform_cotangent(g: Array, first: Pair, tiles: Pair) -> Array:
    """A g A^T, the transpose of `_transform_output`, of a cotangent that lies in a padded array from `first` on.

    LLVM unrolls a short loop over the channels before it looks for vectors, and then finds none: it takes four times as
    long. Two more terms, of zeros, keep it from that.
    """
    more = WINDOW - TILE if g.shape[-1] <= SHORT_LOOP else 0
    return _along_both(np.pad(_OUTPUT.T, ((0, 0), (0, more))), g, first, tiles)


@partial(jax.jit, static_argnums=1, inline=True)
def _transform_output(product: Array, size: Pair) -> Array:
    """(36, N * tiles, K) -> (N, H, W, K): A^T m A of 6x6 tiles m; `size` is (H, W)."""
    rows, columns = map(_num_tiles, size)
    features = product.shape[-1]

    def along_rows(product: Array) -> Array:
        m = product.reshape(WINDOW, WINDOW, -1, rows, columns, features)
        return _combine(_OUTPUT, [m[i] for i in range(WINDOW)], axis=3)

    half = on_its_own(along_rows, product)  # (6, N, rows, 4, columns, K)
    out = _combine(_OUTPUT, [half[j] for j in range(WINDOW)], axis=4)  # (N, rows, 4, columns, 4, K)
    return out.reshape(-1, TILE * rows, TILE * columns, features)[:, : size[0], : size[1]]


def _transform_kernel(kernel: Array) -> Array:
    """(3, 3, C, K) -> (36, C, K): G g G^T, as one matrix product, which compiles fast; the kernel is small."""
    return (jnp.asarray(_KERNEL_BOTH) @ kernel.reshape(9, -1)).reshape(WINDOW**2, *kernel.shape[2:])


def _forward(x: Array, first: Pair, kernel: Array, size: Pair) -> tuple[Array, Array]:
    """The convolution (N, *size, K) of a padded input, and the transformed input (36, N * tiles, C), both float32."""
    transformed = _transform_input(x, first, _tiles(size))
    weights = _transform_kernel(kernel.astype(jnp.float32))
    product = lax.dot_general(transformed, weights, (((2,), (1,)), ((0,), (0,))))
    return _transform_output(product, size), transformed


def _output_size(x: Array, pads: Pads) -> Pair:
    height, width = output_size(x.shape[1:3], (3, 3), (1, 1), pads, (1, 1))
    return height, width


def _tiles(size: Sequence[int]) -> Pair:
    height, width = size
    return _num_tiles(height), _num_tiles(width)


def _end(first: Pair, tiles: Pair) -> Pair:
    """Where the last 6x6 window ends."""
    return first[0] + TILE * tiles[0] + 2, first[1] + TILE * tiles[1] + 2


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv3x3(x: Array, kernel: Array, pads: Pads) -> Array:
    """Convolve (N, H, W, C) with (3, 3, C, K) at stride 1 -> (N, H', W', K), in the dtype of `x`.

    Everything in between is float32.

    Args:
        x: the input.
        kernel: the kernel.
        pads: zeros around the input, ((top, bottom), (left, right)).
    """
    return _conv3x3_forward(x, kernel, pads)[0]


def _conv3x3_forward(x: Array, kernel: Array, pads: Pads) -> tuple[Array, tuple[Array, Array]]:
    (top, _), (left, _) = pads
    size, begin = _output_size(x, pads), (0, 0)
    around = _padded(x, (top, left), _end(begin, _tiles(size)))
    out, transformed = _forward(around, begin, kernel, size)
    return out.astype(x.dtype), (kernel, transformed)


def _conv3x3_backward(pads: Pads, residuals: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    kernel, transformed = residuals
    (top, bottom), (left, right) = pads
    size, own = _output_size(g, ((2 - top, 2 - bottom), (2 - left, 2 - right))), _tiles(g.shape[1:3])
    # Both transforms read one padded array. Where the output had more zeros around it than two, dx begins later in it.
    first = max(2 - top, 0), max(2 - left, 0)
    begin = max(top - 2, 0), max(left - 2, 0)
    height, width = map(max, _end(begin, _tiles(size)), _end(first, own))
    around = _padded(g, first, (height, width))
    dx = _forward(around, begin, jnp.flip(kernel, (0, 1)).swapaxes(2, 3), size)[0].astype(g.dtype)
    cotangent = _transform_cotangent(around, first, own)
    product = lax.dot_general(transformed, cotangent, (((1,), (1,)), ((0,), (0,))))
    dk = jnp.asarray(_KERNEL_BOTH.T) @ product.reshape(WINDOW**2, -1)
    return dx, dk.reshape(kernel.shape).astype(kernel.dtype)


conv3x3.defvjp(_conv3x3_forward, _conv3x3_backward)
