"""Norms have PyTorch's conventions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from supermask.archs._norm import NORMS, BatchNorm, GhostNorm, ghost_size, norm
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
    "ghost": reduced(X, (0, 1, 2)),
    "ghost:2": np.concatenate([reduced(X[:2], (0, 1, 2)), reduced(X[2:], (0, 1, 2))]),
    "layer": reduced(X, -1),
    "group": reduced(X.reshape(4, 5, 3, 8, 1), (1, 2, 4)).reshape(X.shape),
}


@pytest.mark.parametrize("kind", [*NORMS, "ghost:2"])
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


def test_running_statistics_of_ghost_batches_move_to_their_mean():
    layer = norm("ghost:2", 8, nnx.Rngs(0))
    assert isinstance(layer, GhostNorm)
    layer(jnp.asarray(X))
    halves = [half.reshape(-1, 8) for half in (X[:2], X[2:])]
    np.testing.assert_allclose(layer.mean[...], 0.1 * np.mean([h.mean(0) for h in halves], 0), rtol=1e-5)
    np.testing.assert_allclose(layer.var[...], 0.9 + 0.1 * np.mean([h.var(0, ddof=1) for h in halves], 0), rtol=1e-4)
    layer.eval()
    found = layer(jnp.asarray(X))
    expected = (X - layer.mean[...]) / np.sqrt(layer.var[...] + 1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("examples", "ghost", "size"), [(64, 16, 16), (100, 16, 10), (2, 16, 2), (7, 4, 1)])
def test_the_size_of_ghost_batches_divides_the_examples(examples, ghost, size):
    assert ghost_size(examples, ghost) == size


@pytest.mark.parametrize("kind", ["ghost:1", "ghost:", "ghost:x", "batch:4", "none:2"])
def test_only_ghost_has_a_size(kind):
    with pytest.raises(UsageError, match="only ghost has a size, 2 or more examples: ghost:16"):
        norm(kind, 8, nnx.Rngs(0))


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
