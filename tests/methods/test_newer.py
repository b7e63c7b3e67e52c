"""The formulas of the methods since 2023, each against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supermask import core, registry
from supermask.errors import UsageError
from supermask.types import Clock, InitContext
from supermask.weights.inits import draw

pytestmark = pytest.mark.usefixtures("compiled_quickly", "strict")

SHAPES = {"conv1/kernel": (3, 3, 2, 4), "dense1/kernel": (20, 10)}
KEY = jax.random.key(3)
RANDOM = np.random.default_rng(5)
UPSTREAM = {key: jnp.asarray(RANDOM.normal(size=shape), jnp.float32) for key, shape in SHAPES.items()}


def make(name, **options):
    return registry.load("methods", name)(**options)


def begun(method):
    weights = {key: jnp.asarray(w) for key, w in draw(method.recipe.init, 1, SHAPES).items()}
    return weights, method.init(KEY, weights, InitContext(None, None))


def score_gradient(method, scores, weights, progress=0.4):
    clock = Clock(jnp.float32(progress * 10**6), 1, 10**6 + 1)
    state = method.init_state(scores, weights)
    rule = core.mask_search(method)
    return jax.vjp(lambda s: rule.weights(s, state, weights, KEY, clock)[0], scores)[1](UPSTREAM)[0]


def numpy_top(values, count):
    mask = np.zeros(values.size, bool)
    mask[np.argsort(-values.ravel(), kind="stable")[:count]] = True
    return mask.reshape(values.shape)


# --- double-scoring -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [0.02, 0.3, 0.8, 1.0])
def test_double_scoring_keeps_the_largest_of_weights_and_ghosts(density):
    method = make("double-scoring", density=density)
    weights, scores = begun(method)
    hard, gradient = method.harden(scores, weights), score_gradient(method, scores, weights)
    for key, shape in SHAPES.items():
        s = np.asarray(scores[key])
        assert s.shape == (2, *shape)
        kept = numpy_top(np.abs(s), max(1, round(density * s.size)))
        np.testing.assert_array_equal(hard[key], kept[0])
        assert max(0, 2 * density - 1) - 0.01 <= kept[0].mean() <= min(1, 2 * density) + 0.01
        np.testing.assert_allclose(gradient[key][0], UPSTREAM[key] * weights[key] * np.sign(s[0]), rtol=1e-6)
        assert not np.any(gradient[key][1])


def test_double_scoring_learns_how_dense_each_layer_is():
    method = make("double-scoring", density=0.3)
    weights, scores = begun(method)
    raised = {key: s.at[0].multiply(factor) for (key, s), factor in zip(scores.items(), (4.0, 0.25), strict=True)}
    dense, sparse = (float(mask.mean()) for mask in method.harden(raised, weights).values())
    assert dense > 0.45 > 0.1 > sparse


def test_double_scoring_anneals_from_a_half():
    method = make("double-scoring", density=0.1, anneal=0.5)
    weights, scores = begun(method)
    for progress in (0.0, 0.25, 0.5, 1.0):
        mask = method.mask(scores, weights, key=KEY, progress=jnp.float32(progress))
        share = 0.1 + 0.4 * max(0.0, 1 - progress / 0.5) ** 3
        for key, s in scores.items():
            np.testing.assert_array_equal(mask[key], numpy_top(np.abs(np.asarray(s)), round(share * s.size))[0])
    with pytest.raises(UsageError, match="anneal is 2"):
        make("double-scoring", anneal=2.0)
