"""Every convolution of a network is replaced, wherever it lies and whoever wrote it."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax import lax

from supermask.nn.replace import replaced, suited
from supermask.types import Model

pytestmark = pytest.mark.usefixtures("compiled_quickly")

KERNEL = np.float32(np.random.default_rng(1).standard_normal((3, 3, 4, 4)) / 8)
X = np.float32(np.random.default_rng(0).standard_normal((2, 6, 5, 4)))


def conv(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def in_scan(x, kernel):
    return lax.scan(lambda x, _: (jax.nn.relu(conv(x, kernel)), None), x, length=2)[0]


def in_cond(x, kernel):
    return lax.cond(kernel[0, 0, 0, 0] < 100, conv, lambda x, kernel: x + kernel.sum(), x, kernel)


@jax.jit
def compiled(x, kernel):
    return conv(x, kernel)


@jax.custom_vjp
def own_vjp(x, kernel):
    return conv(x, kernel)


own_vjp.defvjp(
    lambda x, kernel: (conv(x, kernel), (x, kernel)), lambda seen, g: (None, 2 * jax.vjp(conv, *seen)[1](g)[1])
)


@jax.custom_vjp
def two_outputs(x, kernel):
    return conv(x, kernel), x.sum()


def _two_outputs_backward(seen, gradients):
    """The second output has no gradient, which arrives as an object that is no array."""
    assert not isinstance(gradients[1], jax.Array)
    return None, 2 * jax.vjp(conv, *seen)[1](gradients[0])[1]


two_outputs.defvjp(
    lambda x, kernel: ((conv(x.value, kernel.value), x.value.sum()), (x.value, kernel.value)),
    _two_outputs_backward,
    symbolic_zeros=True,
)


@jax.custom_jvp
def own_jvp(x, kernel):
    return conv(x, kernel)


@own_jvp.defjvp
def _own_jvp_rule(primals, tangents):
    (x, kernel), (dx, dkernel) = primals, tangents
    return conv(x, kernel), 2 * conv(dx, kernel) + conv(x, dkernel)


class Block(nnx.Module):
    def __init__(self, kernel):
        self.kernel = nnx.Param(kernel)

    def __call__(self, x):
        return jax.nn.relu(conv(x, self.kernel[...]))


def in_nnx_scan(x, kernel):
    run = nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    return run(x, Block(jnp.stack([kernel, kernel])))


def in_nnx_conv(x, kernel):
    layer = nnx.Conv(4, 4, (3, 3), use_bias=False, rngs=nnx.Rngs(0))
    layer.kernel[...] = kernel
    return layer(x)


def in_linen(x, kernel):
    return linen.Conv(4, (3, 3), use_bias=False).apply({"params": {"kernel": kernel}}, x)


WRITTEN = {
    "plain": conv,
    "jit, called twice": lambda x, kernel: compiled(compiled(x, kernel), kernel),
    "scan": in_scan,
    "cond": in_cond,
    "while": lambda x, kernel: lax.fori_loop(0, 2, lambda _, x: conv(x, kernel), x),
    "checkpoint": lambda x, kernel: jax.checkpoint(in_scan)(x, kernel),
    "checkpoint with a policy": lambda x, kernel: jax.checkpoint(
        compiled, policy=jax.checkpoint_policies.dots_saveable
    )(x, kernel),
    "custom_vjp": own_vjp,
    "custom_vjp with symbolic zeros": lambda x, kernel: two_outputs(x, kernel)[0],
    "custom_vjp in a scan": lambda x, kernel: lax.scan(lambda x, _: (own_vjp(x, kernel), None), x, length=2)[0],
    "custom_jvp": own_jvp,
    "vmap": lambda x, kernel: jax.vmap(lambda x: conv(x[None], kernel)[0])(x),
    "vmap over kernels": lambda x, kernel: jax.vmap(conv)(x[:, None], jnp.stack([kernel, -kernel])),
    "gradient inside": lambda x, kernel: jax.grad(lambda x: (conv(x, kernel) ** 2).sum())(x),
    "linear solve": lambda x, kernel: lax.custom_linear_solve(
        lambda y: y + 0.01 * conv(y, kernel), x, lambda f, b: b - 0.01 * conv(b, kernel), lambda f, b: b, symmetric=True
    ),
    "NCHW by lax.conv": lambda x, kernel: lax.conv(
        x.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1), (2, 1), "SAME"
    ),
    "general padding": lambda x, kernel: lax.conv_with_general_padding(
        x.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1), (1, 1), [(1, 2), (0, 1)], (2, 1), (1, 1)
    ),
    "conv_transpose": lambda x, kernel: lax.conv_transpose(x, kernel, (2, 2), "SAME"),
    "jnp.convolve": lambda x, kernel: jnp.convolve(x[0, :, 0, 0], kernel[:, 0, 0, 0]),
    "scipy": lambda x, kernel: jax.scipy.signal.convolve2d(x[0, :, :, 0], kernel[:, :, 0, 0]),
    "nnx.Conv": in_nnx_conv,
    "nnx.scan": in_nnx_scan,
    "nnx.remat": lambda x, kernel: nnx.remat(lambda block, x: block(x))(Block(kernel), x),
    "nnx.jit": lambda x, kernel: nnx.jit(lambda block, x: block(x))(Block(kernel), x),
    "linen": in_linen,
}
if hasattr(own_vjp, "defvjp_with_logs"):  # newer versions of JAX

    @jax.custom_vjp
    def logged(x, kernel):
        return conv(x, kernel)

    logged.defvjp_with_logs(
        lambda x, kernel: (conv(x, kernel), (x, kernel)),
        lambda seen, g: ((None, 2 * jax.vjp(conv, *seen)[1](g)[1]), {"size": (g**2).sum()}),
    )
    WRITTEN["custom_vjp that logs"] = logged
FORWARD_ONLY = {"while"}


def error(value, exact):
    return np.abs(np.asarray(value) - np.asarray(exact)).max() / np.abs(exact).max()


@pytest.mark.parametrize("name", WRITTEN)
def test_none_is_left_and_the_values_stay(name):
    def values(f):
        if name in FORWARD_ONLY:
            return jax.jit(lambda x, kernel: (f(x, kernel),))
        return jax.jit(lambda x, kernel: (f(x, kernel), *jax.grad(lambda *a: (f(*a) ** 2).sum(), (0, 1))(x, kernel)))

    plain, fast = (values(f).lower(X, KERNEL) for f in (WRITTEN[name], replaced(WRITTEN[name])))
    assert "stablehlo.convolution" in plain.as_text()
    assert "stablehlo.convolution" not in fast.as_text()
    for found, exact in zip(fast.compile()(X, KERNEL), plain.compile()(X, KERNEL), strict=True):
        assert found.dtype == exact.dtype
        if np.any(exact):
            assert error(found, exact) < 2e-5
        else:  # the rule says that there is no gradient
            assert not np.any(found)


def test_a_function_without_convolutions_is_traced_to_the_same_program():
    f = lambda x, kernel: jax.nn.relu(x[0, 0] @ kernel[0, 0]) * 2  # noqa: E731
    assert str(jax.make_jaxpr(replaced(f))(X, KERNEL)) == str(jax.make_jaxpr(f)(X, KERNEL))


def test_of_xla_only_products_are_replaced_in_rules_too():
    @jax.custom_jvp
    def own(x, kernel):
        return conv(x, kernel) @ kernel[0, 0]

    own.defjvp(lambda primals, tangents: (own(*primals), conv(tangents[0], primals[1]) @ primals[1][0, 0]))
    text = jax.jit(jax.grad(lambda x: replaced(own, "xla")(x, KERNEL).sum())).lower(X).as_text()
    plain = jax.jit(jax.grad(lambda x: own(x, KERNEL).sum())).lower(X).as_text()
    assert text.count("stablehlo.convolution") == plain.count("stablehlo.convolution") > 0


def test_a_function_that_is_called_twice_is_rewritten_once():
    f = lambda x, kernel: compiled(compiled(x, kernel), kernel)  # noqa: E731
    calls = [eqn for eqn in jax.make_jaxpr(replaced(f))(X, KERNEL).eqns if eqn.params.get("name") == "compiled"]
    assert len(calls) == 2
    assert calls[0].params["jaxpr"] is calls[1].params["jaxpr"]


def test_winograd_in_a_checkpoint():
    """Its constants have no place in the Jaxpr of a checkpoint."""
    x, kernel = np.tile(X, 2), np.tile(KERNEL, (2, 2))
    gradient = lambda f: jax.jit(jax.grad(lambda kernel: f(x, kernel).sum()))  # noqa: E731
    fast = gradient(replaced(jax.checkpoint(compiled))).lower(kernel)
    assert "stablehlo.convolution" not in fast.as_text()
    assert error(fast.compile()(kernel), gradient(conv)(kernel)) < 2e-5


def model():
    def apply(weights, state, inputs, *, train, key):
        count = {"count": state["count"] + 1} if train else state
        return conv(inputs, weights["kernel"]), count

    return Model(weights={"kernel": KERNEL.shape}, state={"count": ()}, apply=apply)


def test_a_model_of_pure_functions():
    fast, plain = suited(model(), "auto"), suited(model(), "xla")
    weights, state = {"kernel": KERNEL}, {"count": jnp.float32(0)}
    for m, slow in ((plain, True), (fast, False)):
        apply = jax.jit(lambda w, s, x, m=m: m.apply(w, s, x, train=True, key=None))
        assert ("stablehlo.convolution" in apply.lower(weights, state, X).as_text()) == slow
    outputs, after = fast.apply(weights, state, X, train=True, key=jax.random.key(0))
    assert error(outputs, plain.apply(weights, state, X, train=True, key=None)[0]) < 2e-5
    assert after == {"count": 1}


def test_what_others_trace_meanwhile_stays_as_it_is():
    """Nothing of JAX is changed while a network is traced, so other threads and other programs see none of it."""
    seen = []

    def slow(x, kernel):
        other = threading.Thread(target=lambda: seen.append(jax.jit(conv).lower(X, KERNEL).as_text()))
        other.start()
        other.join()
        return compiled(x, kernel)

    assert "stablehlo.convolution" not in jax.jit(replaced(slow)).lower(X, KERNEL).as_text()
    assert "stablehlo.convolution" in seen[0]
    assert "stablehlo.convolution" in compiled.lower(X, KERNEL).as_text()
