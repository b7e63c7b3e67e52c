"""The convolution and the pooling against NumPy oracles in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from supermask.nn.conv import conv_general_dilated, convolution
from supermask.nn.pooling import adaptive_mean, max_pool_2x2, max_pool_3x3

pytestmark = pytest.mark.usefixtures("compiled_quickly")

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


@partial(jax.jit, static_argnums=range(3, 8))
def conv_and_gradients(x, kernel, g, *options):
    """The output, and both gradients for the cotangent `g` (the output itself where it is None)."""
    out, back = jax.vjp(lambda x, kernel: call(x, kernel, *options), x, kernel)
    return out, *back(out if g is None else g)


# size, input channels, kernel, output channels, stride, padding, dilation, groups
CASES = {
    "winograd-4x4": ((4, 4), 64, (3, 3), 64, (1, 1), "SAME", (1, 1), 1),
    "winograd-5x7": ((5, 7), 16, (3, 3), 24, (1, 1), "SAME", (1, 1), 1),
    "winograd-8x8-valid": ((8, 8), 64, (3, 3), 16, (1, 1), "VALID", (1, 1), 1),
    "winograd-11x9-explicit": ((11, 9), 16, (3, 3), 16, (1, 1), ((4, 0), (1, 5)), (1, 1), 1),
    "winograd-9x11-explicit": ((9, 11), 16, (3, 3), 24, (1, 1), ((0, 4), (5, 1)), (1, 1), 1),
    "winograd-32x32": ((32, 32), 64, (3, 3), 64, (1, 1), "SAME", (1, 1), 1),
    "winograd-1x2": ((1, 2), 16, (3, 3), 16, (1, 1), "SAME", (1, 1), 1),
    "first-layer-rgb": ((32, 32), 3, (3, 3), 64, (1, 1), "SAME", (1, 1), 1),
    "first-layer-grey": ((5, 7), 1, (3, 3), 16, (1, 1), "VALID", (1, 1), 1),
    "stride-2": ((11, 9), 16, (3, 3), 16, (2, 2), "SAME", (1, 1), 1),
    "stride-1-3": ((11, 9), 3, (3, 3), 16, (1, 3), "VALID", (1, 1), 1),
    "1x1": ((5, 7), 16, (1, 1), 64, (1, 1), "SAME", (1, 1), 1),
    "1x1-stride-2": ((8, 8), 16, (1, 1), 3, (2, 2), "VALID", (1, 1), 1),
    "5x5": ((11, 9), 3, (5, 5), 16, (1, 1), "SAME", (1, 1), 1),
    "7x7-stride-2": ((15, 16), 3, (7, 7), 16, (2, 2), ((3, 3), (3, 3)), (1, 1), 1),
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

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        values = conv_and_gradients(x, kernel, g, stride, padding, dilation, groups)
    for value, exact in zip(values, oracle(x, kernel, g, stride, pads, dilation, groups), strict=True):
        assert value.shape == exact.shape
        assert error(value, exact) < 2e-5


@pytest.mark.parametrize("name", ["winograd-5x7", "grouped"])
def test_auto_and_xla_agree(name):
    size, channels, window, features, *options = CASES[name]
    x, kernel = draw(size, channels, window, features, options[-1])
    fast, plain = (conv_and_gradients(x, kernel, None, *options, convolution(mode)) for mode in ("auto", "xla"))
    for a, b in zip(fast, plain, strict=True):
        assert error(a, np.asarray(b, np.float64)) < 2e-5


@pytest.mark.parametrize("name", ["winograd-4x4", "first-layer-rgb", "stride-2", "1x1", "5x5", "dilated", "grouped"])
def test_no_convolution_is_left_for_xla_on_a_cpu(name):
    size, channels, window, features, *options = CASES[name]
    x, kernel = draw(size, channels, window, features, options[-1])

    def program(mode):
        return str(jax.make_jaxpr(lambda x, k: conv_and_gradients(x, k, None, *options, convolution(mode)))(x, kernel))

    assert "conv_general_dilated[" in program("xla")
    assert "conv_general_dilated[" not in program("auto")


def test_a_scan_over_micro_batches_sums_to_the_gradient_of_the_batch():
    x, kernel = draw((8, 8), 16, (3, 3), 16, batch=4)

    def gradient(x, kernel):
        return jax.grad(lambda kernel: (call(x, kernel) ** 2).sum())(kernel)

    @jax.jit
    def scanned(x, kernel):
        body = lambda total, part: (total + jax.checkpoint(gradient)(part, kernel), None)  # noqa: E731
        return jax.lax.scan(body, jnp.zeros_like(kernel), x.reshape(2, 2, *x.shape[1:]))[0]

    assert error(scanned(x, kernel), np.asarray(jax.jit(gradient)(x, kernel), np.float64)) < 2e-5


def test_vmap_over_kernels():
    x, kernel = draw((5, 7), 16, (3, 3), 8)
    kernels = jnp.stack([kernel, 2 * kernel])
    out = jax.jit(jax.vmap(jax.grad(lambda kernel: (call(x, kernel) ** 2).sum())))(kernels)
    assert error(out[1], 2 * np.asarray(out[0], np.float64)) < 2e-5


def test_the_first_layers_unused_input_gradient_costs_nothing():
    x, kernel = draw((8, 8), 3, (3, 3), 16)

    def products(argnums):
        gradient = jax.grad(lambda x, kernel: (call(x, kernel) ** 2).sum(), argnums)
        return jax.jit(gradient).lower(x, kernel).compile().cost_analysis()["flops"]

    assert products(1) < 0.8 * products((0, 1))


@pytest.mark.parametrize("name", ["winograd-5x7", "grouped"])
def test_bfloat16_stays_bfloat16(name):
    size, channels, window, features, stride, padding, dilation, groups = CASES[name]
    x, kernel = (v.astype(jnp.bfloat16) for v in draw(size, channels, window, features, groups))
    with jax.numpy_dtype_promotion("strict"):
        values = conv_and_gradients(x, kernel, None, stride, padding, dilation, groups)
    pads = explicit(x, kernel, stride, padding, dilation)
    exact = oracle(x, kernel, np.asarray(values[0], np.float64), stride, pads, dilation, groups)
    for value, reference in zip(values, exact, strict=True):
        assert value.dtype == jnp.bfloat16
        assert error(value, reference) < 2e-2


@pytest.mark.parametrize(("window", "shape"), [((3,), (2, 9, 3)), ((3, 3), (7, 7, 3))])
def test_inside_a_flax_module(window, shape):
    rng = np.random.default_rng(0)
    drawn = lambda key, shape, dtype: jnp.asarray(rng.standard_normal(shape), dtype)  # noqa: E731
    layer = nnx.Conv(3, 4, window, use_bias=False, kernel_init=drawn, rngs=nnx.Rngs(0))
    x = np.float32(rng.standard_normal(shape))
    plain = np.asarray(jax.jit(lambda x: layer(x))(x), np.float64)
    layer.conv_general_dilated = conv_general_dilated
    assert error(jax.jit(lambda x: layer(x))(x), plain) < 2e-5


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="auto, xla"):
        convolution("fast")


@pytest.mark.parametrize("size", [(8, 6), (5, 7), (2, 3)])
def test_max_pool_gives_a_tie_to_the_first(size):
    rng = np.random.default_rng(0)
    x = np.float32(rng.integers(0, 3, (2, *size, 5)))  # three values only: most windows have ties
    g = np.float32(rng.standard_normal((2, size[0] // 2, size[1] // 2, 5)))
    out, dx = jax.jit(lambda x, g: (max_pool_2x2(x), jax.vjp(max_pool_2x2, x)[1](g)[0]))(x, g)
    expected, gradient = np.zeros(out.shape), np.zeros(x.shape)
    for n, i, j, c in np.ndindex(*out.shape):
        window = x[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        place = np.unravel_index(window.argmax(), (2, 2))
        expected[n, i, j, c] = window.max()
        gradient[n, 2 * i + place[0], 2 * j + place[1], c] = g[n, i, j, c]
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(dx, np.float32(gradient))


@pytest.mark.parametrize("size", [(8, 6), (5, 7), (2, 3), (1, 1)])
def test_overlapping_max_pool_gives_a_tie_to_the_first(size):
    rng = np.random.default_rng(0)
    x = np.float32(rng.integers(-2, 1, (2, *size, 5)))  # three values only, and a border of zeros would be seen
    g = np.float32(rng.integers(-9, 9, (2, -(-size[0] // 2), -(-size[1] // 2), 5)))  # so that sums are exact
    out, dx = jax.jit(lambda x, g: (max_pool_3x3(x), jax.vjp(max_pool_3x3, x)[1](g)[0]))(x, g)
    expected, gradient = np.zeros(g.shape), np.zeros(x.shape)
    for n, i, j, c in np.ndindex(*g.shape):
        top, left = max(0, 2 * i - 1), max(0, 2 * j - 1)
        window = x[n, top : 2 * i + 2, left : 2 * j + 2, c]
        place = np.unravel_index(window.argmax(), window.shape)
        expected[n, i, j, c] = window.max()
        gradient[n, top + place[0], left + place[1], c] += g[n, i, j, c]
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(dx, np.float32(gradient))


def test_overlapping_max_pool_is_pytorchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = np.float32(np.maximum(rng.standard_normal((2, 9, 12, 3)), 0))
    theirs = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).requires_grad_()
    pooled = torch.max_pool2d(theirs, 3, 2, 1)
    g = np.float32(rng.integers(-9, 9, pooled.shape))
    pooled.backward(torch.from_numpy(g))
    out, pull = jax.vjp(max_pool_3x3, x)
    np.testing.assert_array_equal(out, pooled.detach().numpy().transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(pull(g.transpose(0, 2, 3, 1))[0], theirs.grad.numpy().transpose(0, 2, 3, 1))


@pytest.mark.parametrize("size", [(7, 7), (9, 14), (2, 1), (5, 20)])
def test_adaptive_mean_is_the_mean_over_each_region(size):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    (h, w), n = size, 7
    found = np.asarray(adaptive_mean(jnp.asarray(x), n))
    for i in range(n):
        for j in range(n):
            region = x[:, i * h // n : -(-(i + 1) * h // n), j * w // n : -(-(j + 1) * w // n)]
            np.testing.assert_allclose(found[:, i, j], region.mean((1, 2)), atol=1e-6)
