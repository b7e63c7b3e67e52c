"""The convolution and the pooling against NumPy oracles in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from numpy.lib.stride_tricks import sliding_window_view

from supermask.conv import conv_general_dilated, convolution, max_pool_2x2

NHWC = ("NHWC", "HWIO", "NHWC")


def oracle(x, kernel, g, stride, pads, dilation, groups):
    """Direct convolution in float64: the output, and for a cotangent `g` both gradients."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    h, w, c, k = kernel.shape
    padded = np.pad(x, ((0, 0), *pads, (0, 0)))
    extent = [(size - 1) * d + 1 for size, d in zip((h, w), dilation, strict=True)]
    count = [(p - e) // s + 1 for p, e, s in zip(padded.shape[1:3], extent, stride, strict=True)]
    out, dx, dk = np.zeros((len(x), *count, k)), np.zeros(padded.shape), np.zeros(kernel.shape)
    for i in range(h):
        for j in range(w):
            rows = slice(i * dilation[0], i * dilation[0] + (count[0] - 1) * stride[0] + 1, stride[0])
            cols = slice(j * dilation[1], j * dilation[1] + (count[1] - 1) * stride[1] + 1, stride[1])
            for group in range(groups):
                ins, outs = slice(group * c, (group + 1) * c), slice(group * k // groups, (group + 1) * k // groups)
                out[..., outs] += padded[:, rows, cols, ins] @ kernel[i, j, :, outs]
                if g is not None:
                    dx[:, rows, cols, ins] += g[..., outs] @ kernel[i, j, :, outs].T
                    dk[i, j, :, outs] += np.tensordot(
                        padded[:, rows, cols, ins], g[..., outs], axes=([0, 1, 2], [0, 1, 2])
                    )
    (top, _), (left, _) = pads
    return out, dx[:, top : top + x.shape[1], left : left + x.shape[2]], dk


def error(value, exact):
    return np.abs(np.asarray(value, np.float64) - exact).max() / np.abs(exact).max()


def draw(size, channels, kernel, features, groups=1, batch=2):
    rng = np.random.default_rng(0)
    x = np.maximum(rng.standard_normal((batch, *size, channels)), 0)
    return np.float32(x), np.float32(rng.standard_normal((*kernel, channels // groups, features)))


def call(x, kernel, stride=(1, 1), padding="SAME", dilation=(1, 1), groups=1, conv=conv_general_dilated):
    return conv(
        x,
        kernel,
        stride,
        padding,
        lhs_dilation=(1, 1),
        rhs_dilation=dilation,
        dimension_numbers=lax.conv_dimension_numbers(x.shape, kernel.shape, NHWC),
        feature_group_count=groups,
        precision=None,
        out_sharding=None,
    )


# size, input channels, kernel, output channels, stride, padding, dilation, groups
CASES = {
    "winograd-4x4": ((4, 4), 64, (3, 3), 64, (1, 1), "SAME", (1, 1), 1),
    "winograd-5x7": ((5, 7), 16, (3, 3), 24, (1, 1), "SAME", (1, 1), 1),
    "winograd-8x8-valid": ((8, 8), 64, (3, 3), 16, (1, 1), "VALID", (1, 1), 1),
    "winograd-11x9-explicit": ((11, 9), 16, (3, 3), 16, (1, 1), ((2, 0), (1, 3)), (1, 1), 1),
    "winograd-11x9-wide": ((11, 9), 16, (3, 3), 16, (1, 1), ((4, 3), (0, 5)), (1, 1), 1),
    "winograd-32x32": ((32, 32), 64, (3, 3), 64, (1, 1), "SAME", (1, 1), 1),
    "winograd-3x3-valid": ((3, 3), 16, (3, 3), 16, (1, 1), "VALID", (1, 1), 1),
    "winograd-1x2": ((1, 2), 16, (3, 3), 16, (1, 1), "SAME", (1, 1), 1),
    "first-layer-rgb": ((32, 32), 3, (3, 3), 64, (1, 1), "SAME", (1, 1), 1),
    "first-layer-grey": ((5, 7), 1, (3, 3), 16, (1, 1), "VALID", (1, 1), 1),
    "stride-2": ((11, 9), 16, (3, 3), 16, (2, 2), "SAME", (1, 1), 1),
    "stride-2-explicit": ((8, 8), 16, (3, 3), 16, (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
    "stride-1-3": ((11, 9), 3, (3, 3), 16, (1, 3), "VALID", (1, 1), 1),
    "1x1": ((5, 7), 16, (1, 1), 64, (1, 1), "SAME", (1, 1), 1),
    "1x1-stride-2": ((8, 8), 16, (1, 1), 3, (2, 2), "VALID", (1, 1), 1),
    "5x5": ((11, 9), 3, (5, 5), 16, (1, 1), "SAME", (1, 1), 1),
    "7x7-stride-2": ((32, 32), 3, (7, 7), 16, (2, 2), ((3, 3), (3, 3)), (1, 1), 1),
    "dilated": ((11, 9), 16, (3, 3), 16, (1, 1), "SAME", (2, 3), 1),
    "grouped": ((8, 8), 16, (3, 3), 24, (1, 1), "SAME", (1, 1), 4),
    "depthwise-stride-2": ((5, 7), 16, (3, 3), 32, (2, 2), "SAME", (1, 1), 16),
}


def explicit(x, kernel, stride, padding, dilation):
    if not isinstance(padding, str):
        return padding
    extent = [(k - 1) * d + 1 for k, d in zip(kernel.shape[:2], dilation, strict=True)]
    return lax.padtype_to_pads(x.shape[1:3], extent, stride, padding)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_forward_and_gradients_are_exact(case):
    size, channels, window, features, stride, padding, dilation, groups = case
    x, kernel = draw(size, channels, window, features, groups)
    pads = explicit(x, kernel, stride, padding, dilation)
    g = np.random.default_rng(1).standard_normal(oracle(x, kernel, None, stride, pads, dilation, groups)[0].shape)
    g = np.float32(g)

    @jax.jit
    def run(x, kernel, g):
        out, back = jax.vjp(lambda x, kernel: call(x, kernel, stride, padding, dilation, groups), x, kernel)
        return out, *back(g)

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        values = run(x, kernel, g)
    for value, exact in zip(values, oracle(x, kernel, g, stride, pads, dilation, groups), strict=True):
        assert value.shape == exact.shape
        assert error(value, exact) < 2e-5
