"""The formulas of the methods since 2023, each against NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import ndtri

from supermask import core, masks, registry
from supermask.errors import UsageError
from supermask.masks.noise import above_zero
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


# --- gaussian-gates -------------------------------------------------------------------------------------------------


def phi(x):
    return 0.5 * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))


@pytest.mark.parametrize("mu", [-0.3, 0.5, 1.2])
def test_gaussian_gates_open_as_often_as_the_penalty_says(mu):
    method = make("gaussian-gates", deviation=0.4, strength=2.0)
    scores = {"k": jnp.full((400, 500), mu, jnp.float32)}
    gates = np.asarray(method.mask(scores, scores, key=KEY, progress=jnp.float32(0))["k"])
    assert gates.min() >= 0
    assert gates.max() <= 1
    # P(z > 0) = Phi(mu / deviation), P(z < 1) = Phi((1 - mu) / deviation)
    assert (gates > 0).mean() == pytest.approx(phi(mu / 0.4), abs=0.004)
    assert (gates < 1).mean() == pytest.approx(phi((1 - mu) / 0.4), abs=0.004)
    penalty = float(method.penalty(scores, progress=jnp.float32(0)))
    assert penalty == pytest.approx(2.0 * 200_000 * phi(mu / 0.4), rel=1e-4)


def test_gaussian_gates_gradient_is_that_of_the_noise_and_masks_are_clipped_means():
    method = make("gaussian-gates")
    weights, start = begun(method)
    assert all((np.asarray(s) == 0.5).all() for s in start.values())
    scores = {key: jnp.asarray(RANDOM.normal(0.5, 0.6, shape), jnp.float32) for key, shape in SHAPES.items()}
    gradient = score_gradient(method, scores, weights)
    mask = method.mask(scores, weights, key=KEY, progress=jnp.float32(0.4))
    hard, binary = method.harden(scores, weights), make("gaussian-gates", hard="binary").harden(scores, weights)
    for key in SHAPES:
        z, mu = np.asarray(mask[key]), np.asarray(scores[key])
        expected = np.where((z > 0) & (z < 1), UPSTREAM[key] * weights[key], 0)
        np.testing.assert_allclose(gradient[key], expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(hard[key], np.clip(mu, 0, 1))
        np.testing.assert_array_equal(binary[key], mu >= 0.5)


def test_normal_noise_is_standard_normal():
    noise = np.asarray(masks.normal_noise(KEY, {"k": jnp.zeros((1000, 1000))})["k"], np.float64).ravel()
    assert np.isfinite(noise).all()
    assert [noise.mean(), noise.std()] == pytest.approx([0, 1], abs=0.004)
    for x in (-2.5, -1.0, 0.3, 2.0):
        assert (noise < x).mean() == pytest.approx(phi(x), abs=0.002)


def test_noise_is_finite_even_of_the_ends_of_uniform_noise():
    ends = above_zero(jnp.asarray([0.0, 1 - 2.0**-24], jnp.float32))
    assert np.isfinite(ndtri(ends)).all()
    assert np.isfinite(-jnp.log(-jnp.log(ends))).all()


@pytest.mark.parametrize("options", [{"hard": "soft"}, {"deviation": 0.0}, {"strength": -1.0}])
def test_gaussian_gates_refuse_options_that_make_no_sense(options):
    with pytest.raises(UsageError):
        make("gaussian-gates", **options)
