"""The convolution that suits the backend; every network calls it.

On an accelerator, the convolutions of cuDNN and of the TPU are the fast ones. XLA's CPU backend compiles a convolution
inside a loop to naive code that is fifty times slower (jax-ml/jax issue 12868), so on a CPU a convolution is written as
matrix products.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array, lax

from supermask.nn import winograd

Padding = str | Sequence[tuple[int, int]]
Pair = tuple[int, int]
_NHWC = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
_FEW_CHANNELS = 8  # a guess between the 3 of an image and the 16 of narrow networks; the break-even was not measured


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


def convolution(mode: str = "auto") -> Convolution:
    """A function to call as `lax.conv_general_dilated`, with all arguments after the padding by keyword.

    Args:
        mode: `auto` chooses by JAX's default backend when the call is traced. On an accelerator that is XLA's own
            convolution. On a CPU it is Winograd F(4x4, 3x3) for 3x3 kernels of stride 1, and matrix products for all
            others, for NHWC inputs and HWIO kernels. `xla` is always XLA's own.

    Raises:
        ValueError: the mode is neither.
    """
    if mode not in ("auto", "xla"):
        raise ValueError(f"convolution mode {mode!r} is not one of auto, xla")
    return partial(_convolve, mode)


def _convolve(
    mode: str, inputs: Array, kernel: Array, strides: Sequence[int], padding: Padding, **keywords: Any
) -> Array:
    """Convolve (N, H, W, C) with (h, w, C / groups, K) -> (N, H', W', K)."""
    options = _Options(**keywords)
    if mode == "xla" or not _suits_cpu(inputs, kernel, options):
        return lax.conv_general_dilated(inputs, kernel, strides, padding, **options._asdict())
    stride, dilation = _pair(strides), _pair(options.rhs_dilation or (1, 1))
    pads = _pads(inputs, kernel, stride, dilation, padding)
    out = _on_cpu(inputs, kernel, stride, pads, dilation, options.feature_group_count)
    return out if options.preferred_element_type is None else out.astype(options.preferred_element_type)


def _suits_cpu(inputs: Array, kernel: Array, options: _Options) -> bool:
    """Whether `_on_cpu` should compute this convolution: the backend is a CPU, and `_on_cpu` supports the options.

    It does not support what no network here needs: input dilation, other layouts, 1D and 3D, an output sharding, batch
    groups, and types other than float32 and bfloat16.
    """
    return (
        jax.default_backend() == "cpu"
        and inputs.ndim == 4
        and _is_nhwc(inputs, kernel, options.dimension_numbers)
        and set(options.lhs_dilation or (1,)) == {1}
        and options.batch_group_count == 1
        and options.out_sharding is None
        and inputs.dtype == kernel.dtype
        and inputs.dtype in (jnp.float32, jnp.bfloat16)
    )


conv_general_dilated = convolution("auto")


def _pair(values: Sequence[int]) -> Pair:
    first, second = values
    return int(first), int(second)


def _is_nhwc(inputs: Array, kernel: Array, dimension_numbers: Any) -> bool:
    numbers = lax.conv_dimension_numbers(inputs.shape, kernel.shape, dimension_numbers)
    return numbers == _NHWC


def _pads(inputs: Array, kernel: Array, stride: Pair, dilation: Pair, padding: Padding) -> winograd.Pads:
    if isinstance(padding, str):
        extent = [(k - 1) * d + 1 for k, d in zip(kernel.shape[:2], dilation, strict=True)]
        padding = lax.padtype_to_pads(inputs.shape[1:3], extent, stride, padding)
    (top, bottom), (left, right) = padding
    return (int(top), int(bottom)), (int(left), int(right))


def _on_cpu(x: Array, kernel: Array, stride: Pair, pads: winograd.Pads, dilation: Pair, groups: int) -> Array:
    shape = kernel.shape
    if shape[:2] == (3, 3) and stride == dilation == (1, 1) and groups == 1 and shape[2] >= _FEW_CHANNELS:
        return winograd.conv3x3(x, kernel, pads)
    if groups == 1:
        return _by_patches(x, kernel, stride, pads, dilation)
    return _by_groups(x, kernel, stride, pads, dilation, groups)


def _windows(x: Array, size: tuple[int, ...], stride: Pair, pads: winograd.Pads, dilation: Pair) -> list[Array]:
    """For each position of the kernel, row by row, the (N, H', W', C) inputs that it is multiplied by."""
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (*pads[0], 0), (*pads[1], 0), (0, 0, 0)))
    n, h, w, c = x.shape
    out_h, out_w = (
        (full - (k - 1) * d - 1) // s + 1 for full, k, d, s in zip((h, w), size, dilation, stride, strict=True)
    )
    slices = []
    for i in range(size[0]):
        for j in range(size[1]):
            top, left = i * dilation[0], j * dilation[1]
            limits = (n, top + (out_h - 1) * stride[0] + 1, left + (out_w - 1) * stride[1] + 1, c)
            slices.append(lax.slice(x, (0, top, left, 0), limits, (1, *stride, 1)))
    return slices


def _by_patches(x: Array, kernel: Array, stride: Pair, pads: winograd.Pads, dilation: Pair) -> Array:
    """im2col: the windows side by side and one matrix product; a 1x1 kernel has a single window."""
    windows = _windows(x, kernel.shape[:2], stride, pads, dilation)
    patches = jnp.concatenate(windows, axis=-1) if len(windows) > 1 else windows[0]
    matrix = kernel.reshape(-1, kernel.shape[-1])
    # The product is of two matrices: with more axes, XLA would transpose the kernel's gradient by a copy.
    out = patches.reshape(-1, len(matrix)) @ matrix
    return out.reshape(*patches.shape[:3], -1)


def _by_groups(x: Array, kernel: Array, stride: Pair, pads: winograd.Pads, dilation: Pair, groups: int) -> Array:
    """im2col with one matrix product per group, batched."""
    h, w, c, k = kernel.shape
    windows = _windows(x, (h, w), stride, pads, dilation)
    grouped = kernel.reshape(h * w, c, groups, k // groups)
    patches = jnp.stack([v.reshape(*v.shape[:3], groups, c) for v in windows], axis=-2)
    out = jnp.einsum("nhwgpc,pcgk->nhwgk", patches, grouped)
    return out.reshape(*out.shape[:3], k)
