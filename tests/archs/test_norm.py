"""Norms have PyTorch's conventions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from supermask.archs._norm import NORMS, BatchNorm, norm
from supermask.errors import UsageError

pytestmark = pytest.mark.usefixtures("compiled_quickly")

X = np.float32(2 + 3 * np.random.default_rng(0).standard_normal((4, 5, 3, 8)))


def reduced(x, axes):
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5)


EXPECTED = {
    "none": X,
    "batch": reduced(X, (0, 1, 2)),
    "affine": reduced(X, (0, 1, 2)),
    "layer": reduced(X, -1),
    "group": reduced(X.reshape(4, 5, 3, 8, 1), (1, 2, 4)).reshape(X.shape),
}


@pytest.mark.parametrize("kind", NORMS)
def test_values_in_training(kind):
    layer = norm(kind, 8, nnx.Rngs(0))
    np.testing.assert_allclose(layer(jnp.asarray(X)), EXPECTED[kind], rtol=1e-4, atol=1e-4)
    shapes = {leaf.shape for _, leaf in nnx.to_flat_state(nnx.state(layer, nnx.Param))}
    assert shapes == ({(8,)} if kind == "affine" else set())


def test_running_statistics_move_by_a_tenth_and_their_variance_is_unbiased():
    layer = norm("batch", 8, nnx.Rngs(0))
    flat = X.reshape(-1, 8)
    layer(jnp.asarray(X))
    np.testing.assert_allclose(layer.mean[...], 0.1 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.var[...], 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-4)
    before = jax.tree.map(np.asarray, (layer.mean[...], layer.var[...]))
    layer.eval()
    found = layer(jnp.asarray(X))
    np.testing.assert_allclose(found, (X - before[0]) / np.sqrt(before[1] + 1e-5), rtol=1e-4, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, before, (layer.mean[...], layer.var[...]))


def test_affine_is_of_layer_norm_where_the_network_has_that():
    layer = norm("affine", 8, nnx.Rngs(0), affine="layer")
    np.testing.assert_allclose(layer(jnp.asarray(X)), EXPECTED["layer"], rtol=1e-4, atol=1e-4)
    assert layer.scale.shape == layer.bias.shape == (8,)


def test_groups_divide_the_channels():
    assert norm("group", 48, nnx.Rngs(0)).num_groups == 24
    assert norm("group", 7, nnx.Rngs(0)).num_groups == 7


def test_an_unknown_norm_is_refused():
    with pytest.raises(UsageError, match="unknown option norm 'instance'"):
        norm("instance", 8, nnx.Rngs(0))


def test_batch_norm_takes_nothing_that_it_would_not_use():
    layer = BatchNorm(2, rngs=nnx.Rngs(0))
    x = jnp.zeros((4, 2))
    for words in ({"mask": x == 0}, {"use_running_average": True}):
        with pytest.raises(TypeError, match=next(iter(words))):
            layer(x, **words)
