"""The convolution that suits the backend; every network calls it.

On an accelerator, the convolutions of cuDNN and of the TPU are the fast ones. XLA's CPU backend compiles a convolution
inside a loop to naive code that is fifty times slower (jax-ml/jax issue 12868), so on a CPU a convolution is written as
matrix products, and a depthwise one as sums of slices.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from supermask.nn import winograd
from supermask.nn.depthwise import Geometry, depthwise, weighted_windows
from supermask.nn.fusion import on_its_own
from supermask.nn.windows import Pads, num_slices, output_size, padded, patches, upsampled, windows

Padding = str | Sequence[tuple[int, int]]
_FEW_CHANNELS = 8  # 16 are twice as fast by Winograd as by im2col; between them and the 3 of an image is a guess
_FEW_GROUPS = 8  # more would make a long program of small products
_MOST_SLICES = 1024  # with more, a program takes minutes to compile


class Convolution(Protocol):
    """What `nnx.Conv(conv_general_dilated=...)` takes."""

    def __call__(
        self, inputs: Array, kernel: Array, strides: Sequence[int], padding: Padding, **options: Any
    ) -> Array: ...


class _Options(NamedTuple):
    """The keyword options of `lax.conv_general_dilated`, with the same defaults."""

    lhs_dilation: Sequence[int] | None = None
    rhs_dilation: Sequence[int] | None = None
    dimension_numbers: Any = None
    feature_group_count: int = 1
    batch_group_count: int = 1
    precision: Any = None
    preferred_element_type: Any = None
    out_sharding: Any = None


class _Moves(NamedTuple):
    """How a kernel moves over an input with channels last; `up - 1` zeros lie between the elements of the input.

    With `transposable`, the gradient is JAX's own, so that the convolution may lie in a derivative too.
    """

    stride: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    up: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    transposable: bool


def convolution(mode: str = "auto") -> Convolution:
    """A function to call as `lax.conv_general_dilated`, with all arguments after the padding by keyword.

    Args:
        mode: `auto` chooses by JAX's default backend when the call is traced. On an accelerator that is XLA's own
            convolution. On a CPU it is Winograd F(4x4, 3x3) for 3x3 kernels of stride 1, sums of slices for depthwise
            kernels, and matrix products for all others. `xla` is always XLA's own. `transposable` is `auto` without
            Winograd, for the rules of a `jax.custom_jvp`, which JAX transposes.

    Raises:
        ValueError: the mode is none of these.
    """
    if mode not in ("auto", "xla", "transposable"):
        raise ValueError(f"convolution mode {mode!r} is not one of auto, xla, transposable")
    return partial(_convolve, mode)


def _convolve(
    mode: str, inputs: Array, kernel: Array, strides: Sequence[int], padding: Padding, **keywords: Any
) -> Array:
    options = _Options(**keywords)
    numbers = lax.conv_dimension_numbers(inputs.shape, kernel.shape, options.dimension_numbers)
    x, k = _channels_last(inputs, numbers.lhs_spec), _channels_last(kernel, numbers.rhs_spec, first=False)
    moves = _moves(x, k, strides, padding, options)._replace(transposable=mode == "transposable")
    if mode == "xla" or not _suits_cpu(x, k, moves, options):
        return lax.conv_general_dilated(inputs, kernel, strides, padding, **options._asdict())
    if options.preferred_element_type is not None:
        x, k = x.astype(options.preferred_element_type), k.astype(options.preferred_element_type)
    if (groups := options.batch_group_count) > 1:  # the groups of the batch, side by side as groups of channels
        x = jnp.moveaxis(x.reshape(groups, -1, *x.shape[1:]), 0, -2).reshape(-1, *x.shape[1:-1], groups * x.shape[-1])
    if len(moves.stride) == 1:
        x, k = x[:, None], k[None]
        return _back(_on_cpu(x, k, _one_row(moves))[:, 0], numbers.out_spec)
    return _back(_on_cpu(x, k, moves), numbers.out_spec)


conv_general_dilated = convolution("auto")


def _channels_last(x: Array, spec: Sequence[int], first: bool = True) -> Array:
    """(N, ..., C) from the axes (N, C, ...) that `spec` names; for a kernel (..., C, K) from those of (K, C, ...)."""
    return x.transpose((spec[0], *spec[2:], spec[1]) if first else (*spec[2:], spec[1], spec[0]))


def _back(out: Array, spec: Sequence[int]) -> Array:
    """The inverse of `_channels_last`."""
    return out.transpose(np.argsort((spec[0], *spec[2:], spec[1])).tolist())


def _moves(x: Array, kernel: Array, strides: Sequence[int], padding: Padding, options: _Options) -> _Moves:
    ones = (1,) * (x.ndim - 2)
    dilation = tuple(options.rhs_dilation or ones)
    if isinstance(padding, str):
        extent = [(k - 1) * d + 1 for k, d in zip(kernel.shape, dilation, strict=False)]
        padding = lax.padtype_to_pads(x.shape[1:-1], extent, strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    up = tuple(options.lhs_dilation or ones)
    groups = options.feature_group_count * options.batch_group_count  # one of them is 1
    return _Moves(tuple(map(int, strides)), pads, up, dilation, groups, False)


def _suits_cpu(x: Array, kernel: Array, moves: _Moves, options: _Options) -> bool:
    """Whether `_on_cpu` should compute this convolution: the backend is a CPU, and `_on_cpu` supports the types.

    Left to XLA are sharded outputs, empty arrays, types of fewer than 8 bits, and kernels whose program would be too
    long.
    """
    stride, pads, up, dilation, *_ = moves
    spread = [(n - 1) * u + 1 for n, u in zip(x.shape[1:-1], up, strict=True)]
    count = output_size(spread, kernel.shape[:-2], stride, pads, dilation)
    return (
        jax.default_backend() == "cpu"
        and options.out_sharding is None
        and x.dtype == kernel.dtype
        and (x.dtype.kind in "fciu" or x.dtype == jnp.bfloat16)
        and 0 not in (*x.shape, *kernel.shape, *count)
        and num_slices(kernel.shape[:-2], stride, dilation, count) <= _MOST_SLICES
    )


def _one_row(moves: _Moves) -> _Moves:
    """An image of one row for a convolution in 1D."""
    stride, pads, up, dilation, *_ = moves
    return moves._replace(stride=(1, *stride), pads=((0, 0), *pads), up=(1, *up), dilation=(1, *dilation))


def _on_cpu(x: Array, kernel: Array, moves: _Moves) -> Array:
    """Convolve (N, ..., C) with (..., C / groups, K) -> (N, ..., K)."""
    if any(u != 1 for u in moves.up):
        dense = moves._replace(up=(1,) * len(moves.up))
        if set(moves.stride) == set(moves.dilation) == {1}:
            phase = lambda x, kernel, pads: _on_cpu(x, kernel, dense._replace(pads=tuple(pads)))  # noqa: E731
            return upsampled(phase, x, kernel, moves.up, moves.pads)
        return _on_cpu(padded(x, [(0, 0)] * len(moves.up), [u - 1 for u in moves.up]), kernel, dense)
    if moves.groups == 1:
        return _dense(x, kernel, moves)
    if kernel.shape[-2] == 1 and x.ndim == 4:
        return _depthwise(x, kernel, moves)
    return _by_groups(x, kernel, moves)


def _dense(x: Array, kernel: Array, moves: _Moves) -> Array:
    """Winograd, or im2col and one matrix product."""
    stride, pads, _, dilation, _, transposable = moves
    is_3x3 = kernel.shape[:-2] == (3, 3) and stride == dilation == (1, 1)
    is_float = jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize <= 4
    if is_3x3 and is_float and not transposable and kernel.shape[2] >= _FEW_CHANNELS:
        size = output_size(x.shape[1:-1], (3, 3), stride, pads, dilation)
        if winograd.saves(size):
            return winograd.conv3x3(x, kernel, _two(pads))
    columns = patches(x, kernel.shape[:-2], stride, pads, dilation)
    matrix = kernel.reshape(-1, kernel.shape[-1])
    # The product is of two matrices: with more axes, XLA would transpose the kernel's gradient by a copy.
    out = columns.reshape(-1, len(matrix)) @ matrix
    return out.reshape(*columns.shape[:-1], -1)


def _depthwise(x: Array, kernel: Array, moves: _Moves) -> Array:
    """Each channel by itself, for as many outputs as it has; summed in float32 at least."""
    stride, pads, _, dilation, groups, transposable = moves
    geometry = Geometry(_pair(stride), _two(pads), _pair(dilation))
    exact = jnp.promote_types(x.dtype, jnp.float32) if jnp.issubdtype(x.dtype, jnp.inexact) else x.dtype
    each = jnp.repeat(x, kernel.shape[-1] // groups, axis=-1).astype(exact)
    convolve = weighted_windows if transposable else depthwise
    return convolve(each, kernel[:, :, 0].astype(exact), geometry).astype(x.dtype)


def _by_groups(x: Array, kernel: Array, moves: _Moves) -> Array:
    """A few groups one after the other, as dense convolutions; many by im2col and one batched matrix product."""
    *size, inputs, outputs = kernel.shape
    groups = moves.groups
    if groups <= _FEW_GROUPS:
        alone = moves._replace(groups=1)
        split, join = (_split, _join) if moves.transposable else (_apart, _together)
        pairs = zip(split(x, groups), _split(kernel, groups), strict=True)
        return join([_dense(part, own, alone) for part, own in pairs], groups)
    seen = windows(x, size, moves.stride, moves.pads, moves.dilation)
    columns = jnp.stack([v.reshape(*v.shape[:-1], groups, inputs) for v in seen], axis=-2)
    grouped = kernel.reshape(len(seen), inputs, groups, outputs // groups)
    out = jnp.einsum("...gpc,pcgk->...gk", columns, grouped)
    return out.reshape(*out.shape[:-2], outputs)


def _split(x: Array, groups: int) -> list[Array]:
    return jnp.split(x, groups, axis=-1)


def _join(parts: list[Array], groups: int) -> Array:
    return jnp.concatenate(parts, axis=-1)


# Fused into what reads it, a concatenation is a choice for each element, and the gradient of a split is a sum of padded
# parts. Stored first, it is a copy, in the gradient as well.


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _apart(x: Array, groups: int) -> list[Array]:
    return _split(x, groups)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _together(parts: list[Array], groups: int) -> Array:
    return on_its_own(partial(_join, groups=groups), parts)


_apart.defvjp(lambda x, groups: (_split(x, groups), None), lambda groups, _, g: (_together(g, groups),))
_together.defvjp(lambda parts, groups: (_together(parts, groups), None), lambda groups, _, g: (_split(g, groups),))


def _two(pads: Pads) -> winograd.Pads:
    (top, bottom), (left, right) = pads
    return (top, bottom), (left, right)


def _pair(values: Sequence[int]) -> tuple[int, int]:
    first, second = values
    return first, second
