"""The formulas of the methods since 2023, each against NumPy."""

import itertools
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


# --- maskllm --------------------------------------------------------------------------------------------------------


def numpy_groups(method, scores, noise, progress):
    """The mean choice of each group of one layer, group by group."""
    room, *shape = scores.shape
    rows, u = (np.asarray(a, np.float64).reshape(room, -1, shape[-1]) for a in (scores, noise))
    mean = np.zeros(rows.shape[1:])
    scale, temperature = 100 + 400 * progress, 4 + (0.05 - 4) * progress
    for first in range(0, rows.shape[1], method.group):
        size = min(method.group, rows.shape[1] - first)
        kept = math.ceil(method.best * size / method.group)
        choices = [set(c) for c in itertools.combinations(range(size), kept)]
        for out in range(shape[-1]):
            s = rows[:, first : first + size, out].reshape(-1)[: len(choices)]
            if noise is not scores:
                g = -np.log(-np.log(u[:, first : first + size, out].reshape(-1)[: len(choices)]))
                e = np.exp((scale * s + g - (scale * s + g).max()) / temperature)
                weight = e / e.sum()
            else:
                weight = np.arange(len(choices)) == s.argmax()
            for i in range(size):
                mean[first + i, out] = sum(w for w, c in zip(weight, choices, strict=True) if i in c)
    return mean.reshape(shape)


@pytest.mark.parametrize(
    ("density", "group"),
    [pytest.param(0.5, 4, marks=pytest.mark.slow), (0.25, 4), pytest.param(0.375, 8, marks=pytest.mark.slow)],
)
def test_maskllm_keeps_the_best_choice_of_each_group(density, group):
    method = make("maskllm", density=density, group=group)
    shapes = {"conv1/kernel": (3, 3, 3, 4), "dense1/kernel": (20, 10), "one/kernel": (1, 1)}
    weights = {key: jnp.asarray(w) for key, w in draw(method.recipe.init, 1, shapes).items()}
    scores = method.init(KEY, weights, InitContext(None, None))
    hard = method.harden(scores, weights)
    for key, shape in shapes.items():
        assert hard[key].dtype == bool
        np.testing.assert_array_equal(hard[key], numpy_groups(method, scores[key], scores[key], 0.0) > 0)
        # As many of each group as the best ones by rank: the same pattern.
        alike = masks.best_of_groups(jnp.zeros(shape), f"{method.best}:{group}")
        found, asked = (np.asarray(m).reshape(-1, shape[-1]) for m in (hard[key], alike))
        for first in range(0, len(found), group):
            np.testing.assert_array_equal(found[first : first + group].sum(0), asked[first : first + group].sum(0))


@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_maskllm_mask_is_the_mean_choice_under_a_gumbel_softmax(progress):
    method = make("maskllm")
    weights, scores = begun(method)
    key, s = "dense1/kernel", scores["dense1/kernel"]
    slots = np.full((5, 2 * 4, 10), 0.5)  # five groups; the noise as the method takes it, laid out like the scores
    slots[:, :6] = np.asarray(masks.uniform(masks.key_for(KEY, key), (5, 6, 10)))
    noise = slots.reshape(5, 2, 4, 10).swapaxes(0, 1).reshape(s.shape)
    mask = method.mask(scores, weights, key=KEY, progress=jnp.float32(progress))[key]
    np.testing.assert_allclose(mask, numpy_groups(method, s, noise, progress), atol=2e-5)
    np.testing.assert_allclose(np.asarray(mask).reshape(5, 4, 10).sum(1), 2, rtol=1e-5)


@pytest.mark.parametrize(("group", "choices"), [(4, 6), (6, 20)])  # few enough for sums, and a product
def test_maskllm_gradient_by_finite_differences(group, choices):
    method = make("maskllm", group=group)
    weights = {"k": jnp.asarray(RANDOM.normal(size=(2 * group, 2)), jnp.float32)}
    scores = method.init(KEY, weights, InitContext(None, None))

    def total(s):
        mask = method.mask({"k": s}, weights, key=KEY, progress=jnp.float32(0))
        return jnp.sum(mask["k"] * weights["k"] ** 2)

    gradient = np.asarray(jax.grad(total)(scores["k"]))
    slots = gradient.reshape(-1, 2, group, 2).swapaxes(0, 1).reshape(2, -1, 2)
    assert not slots[:, choices:].any()  # no choice has these
    assert slots[:, :choices].any(axis=(0, 2)).all()
    for index in np.ndindex(*gradient.shape):
        step = jnp.zeros(gradient.shape, jnp.float32).at[index].set(1e-3)
        numeric = float(total(scores["k"] + step) - total(scores["k"] - step)) / 2e-3
        assert gradient[index] == pytest.approx(numeric, rel=2e-2, abs=5e-3)


@pytest.mark.parametrize("options", [{"group": 9}, {"group": 0}, {"temperature": 0.0}])
def test_maskllm_refuses_options_that_make_no_sense(options):
    with pytest.raises(UsageError):
        make("maskllm", **options)
