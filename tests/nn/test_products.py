"""A matrix applied along several axes has the gradient of a product of matrices, however a network writes it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.extend.core import jaxprs_in_params

from supermask.nn.replace import replaced

pytestmark = pytest.mark.usefixtures("compiled_quickly")

RANDOM = np.random.default_rng(0)


def drawn(*shape):
    return jnp.float32(RANDOM.standard_normal(shape))


WRITTEN = {
    "tokens": (lambda x, k: x @ k, drawn(2, 3, 4), drawn(4, 5)),
    "pixels": (lambda x, k: jnp.einsum("bhwc,ck->bhwk", x, k), drawn(2, 3, 2, 4), drawn(4, 5)),
    "time first": (lambda x, k: jnp.einsum("tbc,ck->tbk", x, k), drawn(3, 2, 4), drawn(4, 5)),
    "to heads": (lambda x, k: jnp.einsum("btc,chd->bthd", x, k), drawn(2, 3, 4), drawn(4, 2, 5)),
    "from heads": (lambda x, k: jnp.einsum("bthd,hdc->btc", x, k), drawn(2, 3, 2, 5), drawn(2, 5, 4)),
    "a kernel of (outputs, inputs)": (lambda x, k: jnp.einsum("btc,kc->btk", x, k), drawn(2, 3, 4), drawn(5, 4)),
    "the kernel on the left": (
        lambda x, k: lax.dot_general(k, x, (((1,), (2,)), ((), ()))),
        drawn(2, 3, 4),
        drawn(5, 4),
    ),
    "channels first": (lambda x, k: lax.dot_general(x, k, (((0,), (0,)), ((), ()))), drawn(4, 2, 3), drawn(4, 5)),
    "in a loop": (
        lambda x, k: lax.scan(lambda x, _: (jnp.tanh(x @ k), None), x, length=2)[0],
        drawn(2, 3, 4),
        drawn(4, 4),
    ),
    "in a checkpoint": (jax.checkpoint(lambda x, k: jnp.tanh(x @ k) @ k), drawn(2, 3, 4), drawn(4, 4)),
    "bfloat16": (lambda x, k: x.astype(jnp.bfloat16) @ k.astype(jnp.bfloat16), drawn(2, 3, 4), drawn(4, 5)),
}
OTHERS = {
    "matrices": (lambda x, k: x @ k, drawn(3, 4), drawn(4, 5)),
    "a vector": (lambda x, k: x @ k, drawn(2, 3, 4), drawn(4)),
    "a batch of matrices": (lambda x, k: jnp.einsum("btc,bck->btk", x, k), drawn(2, 3, 4), drawn(2, 4, 5)),
    "axes in the middle": (lambda x, k: lax.dot_general(x, k, (((1,), (0,)), ((), ()))), drawn(2, 4, 3), drawn(4, 5)),
    "whole numbers": (lambda x, k: x.astype(int) @ k.astype(int), drawn(2, 3, 4), drawn(4, 5)),
}


def gradient(f):
    return jax.grad(lambda x, kernel: (f(x, kernel).astype(jnp.float32) ** 2).sum(), (0, 1))


def products(jaxpr):
    """The dimension numbers of all products in a Jaxpr, inner ones included."""
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    own = [eqn.params["dimension_numbers"] for eqn in jaxpr.eqns if eqn.primitive.name == "dot_general"]
    return own + [found for eqn in jaxpr.eqns for inner in jaxprs_in_params(eqn.params) for found in products(inner)]


def sums_over_several(f, *args):
    """How many products without batch axes are summed over more than one axis."""
    found = products(jax.make_jaxpr(f)(*args))
    return sum(batch == ((), ()) and len(left) > 1 for (left, _), batch in found)


@pytest.mark.parametrize("name", WRITTEN)
def test_gradients_are_products_of_matrices_with_the_same_values(name):
    f, *args = WRITTEN[name]
    assert sums_over_several(gradient(f), *args)
    own = sums_over_several(f, *args)  # as the network has it
    assert sums_over_several(gradient(replaced(f)), *args) == own
    tolerance = 2e-2 if name == "bfloat16" else 1e-5
    exact = f(*args), *gradient(f)(*args)
    for found, expected in zip((replaced(f)(*args), *gradient(replaced(f))(*args)), exact, strict=True):
        assert found.dtype == expected.dtype
        assert np.abs(np.asarray(found - expected)).max() < tolerance * np.abs(np.asarray(expected)).max()


@pytest.mark.parametrize("name", OTHERS)
def test_other_products_are_traced_to_the_same_program(name):
    f, *args = OTHERS[name]
    assert str(jax.make_jaxpr(replaced(f))(*args)) == str(jax.make_jaxpr(f)(*args))


def test_a_gradient_of_a_gradient():
    f, *args = WRITTEN["tokens"]
    norm = lambda f: jax.grad(lambda *args: sum((g**2).sum() for g in gradient(f)(*args)))  # noqa: E731
    np.testing.assert_allclose(norm(replaced(f))(*args), norm(f)(*args), rtol=1e-4)


def test_attention_of_flax():
    net = nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0))
    graph, weights = nnx.split(net)
    f = lambda x, weights: nnx.merge(graph, weights)(x)  # noqa: E731
    x = drawn(2, 3, 8)
    assert sums_over_several(gradient(f), x, weights) > sums_over_several(f, x, weights)
    assert sums_over_several(gradient(replaced(f)), x, weights) == sums_over_several(f, x, weights)
