"""Convolutions of every kind that `lax.conv_general_dilated` knows, against its own results in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from supermask.nn.conv import conv_general_dilated, convolution

pytestmark = pytest.mark.usefixtures("compiled_quickly")

NHWC, NCHW = ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")
ONE, THREE = ("NWC", "WIO", "NWC"), ("NDHWC", "DHWIO", "NDHWC")

# shape of the input, shape of the kernel, strides, padding, other options
CASES = {
    "NCHW": ((2, 5, 7, 6), (4, 5, 3, 3), (1, 2), "SAME", {"dimension_numbers": NCHW}),
    "no layout named": ((2, 9, 5, 6), (10, 9, 3, 3), (1, 1), "SAME", {}),
    "mixed layouts": ((7, 2, 6, 5), (3, 5, 4, 2), (2, 1), "VALID", {"dimension_numbers": ("HNWC", "HIOW", "CWNH")}),
    "tiles": ((2, 9, 8, 3), (4, 4, 3, 5), (4, 4), "VALID", {"dimension_numbers": NHWC}),
    "tiles over the edge": ((2, 9, 7, 3), (4, 4, 3, 5), (4, 4), "SAME", {"dimension_numbers": NHWC}),
    "negative padding": ((2, 9, 8, 3), (3, 2, 3, 5), (2, 1), ((-1, 2), (1, -2)), {"dimension_numbers": NHWC}),
    "kernel of the input's size": ((2, 13, 14, 3), (13, 12, 3, 5), (1, 1), "VALID", {"dimension_numbers": NHWC}),
    "large dilated kernel": (
        (2, 30, 29, 2),
        (12, 13, 2, 3),
        (2, 1),
        ((0, 0), (1, 0)),
        {"dimension_numbers": NHWC, "rhs_dilation": (2, 2)},
    ),
    "depthwise": ((2, 6, 9, 4), (3, 3, 1, 4), (1, 1), "SAME", {"dimension_numbers": NHWC, "feature_group_count": 4}),
    "depthwise 7x7": (
        (2, 6, 9, 4),
        (7, 7, 1, 4),
        (1, 1),
        "SAME",
        {"dimension_numbers": NHWC, "feature_group_count": 4},
    ),
    "depthwise, several outputs": (
        (2, 6, 9, 4),
        (3, 2, 1, 12),
        (2, 1),
        "SAME",
        {"dimension_numbers": NHWC, "feature_group_count": 4},
    ),
    "depthwise, strided": (
        (2, 7, 10, 4),
        (3, 5, 1, 4),
        (2, 3),
        ((1, 0), (3, 1)),
        {"dimension_numbers": NHWC, "feature_group_count": 4},
    ),
    "depthwise, dilated": (
        (2, 7, 10, 4),
        (3, 2, 1, 4),
        (1, 1),
        "SAME",
        {"dimension_numbers": NHWC, "feature_group_count": 4, "rhs_dilation": (2, 3)},
    ),
    "depthwise, strided and dilated": (
        (2, 9, 10, 4),
        (3, 2, 1, 4),
        (2, 1),
        "SAME",
        {"dimension_numbers": NHWC, "feature_group_count": 4, "rhs_dilation": (1, 3)},
    ),
    "depthwise, stride beyond the kernel": (
        (2, 9, 10, 4),
        (2, 1, 1, 4),
        (3, 3),
        "VALID",
        {"dimension_numbers": NHWC, "feature_group_count": 4},
    ),
    "grouped": ((2, 6, 5, 12), (3, 3, 4, 6), (2, 1), "SAME", {"dimension_numbers": NHWC, "feature_group_count": 3}),
    "grouped, one input each in blocks": (
        (2, 4, 3, 5, 8),
        (2, 1, 3, 1, 16),
        (1, 1, 2),
        "SAME",
        {"dimension_numbers": THREE, "feature_group_count": 8},
    ),
    "many groups, NCHW": (
        (2, 80, 5, 4),
        (80, 2, 3, 3),
        (1, 1),
        "SAME",
        {"dimension_numbers": NCHW, "feature_group_count": 40},
    ),
    "transposed 2x2": (
        (2, 4, 5, 3),
        (2, 2, 3, 6),
        (1, 1),
        ((1, 1), (1, 1)),
        {"dimension_numbers": NHWC, "lhs_dilation": (2, 2)},
    ),
    "transposed 3x4 by 2 and 3": (
        (2, 4, 5, 3),
        (3, 4, 3, 6),
        (1, 1),
        ((2, 1), (0, 4)),
        {"dimension_numbers": NHWC, "lhs_dilation": (2, 3)},
    ),
    "transposed beyond the kernel": (
        (2, 4, 5, 3),
        (1, 2, 3, 6),
        (1, 1),
        ((0, 1), (1, 1)),
        {"dimension_numbers": NHWC, "lhs_dilation": (2, 3)},
    ),
    "transposed, dilated and strided": (
        (2, 4, 5, 3),
        (3, 2, 3, 6),
        (1, 2),
        ((2, 1), (1, 4)),
        {"dimension_numbers": NHWC, "lhs_dilation": (2, 3), "rhs_dilation": (2, 1)},
    ),
    "transposed, depthwise": (
        (2, 4, 5, 3),
        (4, 4, 1, 3),
        (1, 1),
        ((2, 2), (2, 2)),
        {"dimension_numbers": NHWC, "lhs_dilation": (2, 2), "feature_group_count": 3},
    ),
    "groups of the batch": (
        (6, 4, 5, 2),
        (3, 3, 2, 9),
        (1, 1),
        "SAME",
        {"dimension_numbers": NHWC, "batch_group_count": 3},
    ),
    "1D": ((2, 11, 3), (4, 3, 5), (2,), "SAME", {"dimension_numbers": ONE, "rhs_dilation": (2,)}),
    "1D, depthwise": ((2, 11, 6), (4, 1, 6), (1,), ((3, 0),), {"dimension_numbers": ONE, "feature_group_count": 6}),
    "1D, transposed": ((2, 5, 3), (4, 3, 5), (1,), ((2, 2),), {"dimension_numbers": ONE, "lhs_dilation": (2,)}),
    "3D": ((2, 4, 5, 6, 3), (3, 2, 3, 3, 4), (1, 2, 1), "SAME", {"dimension_numbers": THREE}),
    "3D, transposed": (
        (1, 3, 2, 3, 2),
        (2, 2, 3, 2, 3),
        (1, 1, 1),
        ((1, 1), (0, 1), (1, 1)),
        {"dimension_numbers": THREE, "lhs_dilation": (2, 1, 2)},
    ),
    "no axes": ((4, 3), (5, 3), (), (), {}),
}


def draw(name, dtype):
    rng = np.random.default_rng(0)
    return [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in CASES[name][:2]]


def values(conv, name, x, kernel):
    """The output, and both gradients for a cotangent that is drawn."""
    *_, strides, padding, options = CASES[name]

    @jax.jit
    def both(x, kernel):
        out, back = jax.vjp(lambda x, kernel: conv(x, kernel, strides, padding, **options), x, kernel)
        g = np.random.default_rng(2).standard_normal(out.shape)
        return out, *back(jnp.asarray(g, out.dtype))

    return both.lower(x, kernel)


@pytest.mark.parametrize("name", CASES)
def test_forward_and_gradients(name):
    with jax.enable_x64(True):
        x, kernel = draw(name, np.float64)
        exact = values(convolution("xla"), name, x, kernel)
        found = values(conv_general_dilated, name, x, kernel)
        assert "stablehlo.convolution" in exact.as_text()
        assert "stablehlo.convolution" not in found.as_text()
        for value, reference in zip(found.compile()(x, kernel), exact.compile()(x, kernel), strict=True):
            assert value.dtype == reference.dtype
            np.testing.assert_allclose(value, reference, rtol=0, atol=1e-12 * np.abs(reference).max())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.complex64])
@pytest.mark.parametrize("name", ["depthwise", "grouped", "transposed 2x2"])
def test_other_types(name, dtype):
    x, kernel = draw(name, dtype)
    found = values(conv_general_dilated, name, x, kernel).compile()(x, kernel)
    wide = np.complex64 if dtype == np.complex64 else np.float32
    exact = values(convolution("xla"), name, x.astype(wide), kernel.astype(wide)).compile()
    for value, reference in zip(found, exact(x.astype(wide), kernel.astype(wide)), strict=True):
        assert value.dtype == dtype
        error = np.abs(np.asarray(value).astype(wide) - reference).max()
        assert error < 4 * float(jnp.finfo(dtype).eps) * np.abs(reference).max()


@pytest.mark.slow
def test_whole_numbers_in_a_wider_type():
    rng = np.random.default_rng(0)
    x, kernel = rng.integers(-128, 128, (2, 6, 5, 4), np.int8), rng.integers(-128, 128, (3, 3, 4, 6), np.int8)
    options = {"dimension_numbers": NHWC, "preferred_element_type": np.int32}
    found = conv_general_dilated(x, kernel, (1, 1), "SAME", **options)
    np.testing.assert_array_equal(found, lax.conv_general_dilated(x, kernel, (1, 1), "SAME", **options))
    assert found.dtype == np.int32


@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (2, 1, 4, 3)])
def test_an_empty_result(shape):
    x, kernel = np.ones(shape, np.float32), np.ones((3, 3, 3, 5), np.float32)
    found, exact = (
        conv(x, kernel, (1, 1), "VALID", dimension_numbers=NHWC)
        for conv in (conv_general_dilated, lax.conv_general_dilated)
    )
    assert found.shape == exact.shape
    assert found.size == 0
