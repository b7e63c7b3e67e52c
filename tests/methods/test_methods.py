"""One contract for every file in methods/, and an oracle in NumPy for each formula."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supermask import core, registry
from supermask.errors import UsageError
from supermask.types import Clock, InitContext, Method
from supermask.weights.inits import draw

pytestmark = pytest.mark.usefixtures("compiled_quickly", "strict")

SHAPES = {"conv1/kernel": (3, 3, 2, 4), "dense1/kernel": (20, 10), "one/kernel": (1, 1)}
KEY = jax.random.key(3)


def make(name, **options) -> Method:
    return registry.load("methods", name)(**options)


# A smooth stand-in for a network: its loss and response are known functions of the weights.
CONTEXT = InitContext(
    loss=lambda w, temperature: sum(jnp.sum(jnp.sin(3 * a) + a**3) for a in w.values()) / temperature,
    response=lambda w: sum(jnp.sum(jnp.abs(a) ** 1.5) for a in w.values()),
)


def setting(method):
    weights = draw(method.recipe.init, 1, SHAPES)
    return weights, method.init(KEY, {key: jnp.asarray(w) for key, w in weights.items()}, CONTEXT)


def in_training(method, scores, weights, progress=0.4):
    return method.mask(scores, weights, key=KEY, progress=jnp.float32(progress))


def product(method, scores, weights, state, progress=0.4):
    """Effective weights as a step makes them."""
    clock = Clock(jnp.float32(progress * 10**6), 1, 10**6 + 1)
    return core.mask_search(method).weights(scores, state, weights, KEY, clock)[0]


every = pytest.mark.parametrize("name", registry.names("methods"))
learned = pytest.mark.parametrize("name", [n for n in registry.names("methods") if registry.load("methods", n).learned])


@every
def test_is_a_frozen_hashable_dataclass_with_recipe_and_paper(name):
    method = make(name)
    assert isinstance(method, Method)
    assert hash(method) == hash(make(name))
    assert method.paper
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.density = 0.1
    # Recording fields in a ticket and reading them back gives the same method.
    assert type(method)(**dataclasses.asdict(method)) == method


@every
def test_scores_and_masks_have_the_structure_of_the_weights(name):
    method = make(name)
    weights, scores = setting(method)
    mask, hard = in_training(method, scores, weights), method.harden(scores, weights)
    assert {key: value.shape for key, value in hard.items()} == SHAPES
    for tree in ({key: scores[key] for key in SHAPES}, mask, method.effective(weights, mask)):
        # An axis in front is a method's own affair.
        assert {key: value.shape[-len(SHAPES[key]) :] for key, value in tree.items()} == SHAPES
    assert scores.keys() == hard.keys() == mask.keys() == SHAPES.keys()
    assert all(value.dtype == jnp.float32 for tree in (scores, mask) for value in tree.values())
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(method.init_state(scores, weights))} <= {"float32", "int32"}
    assert {str(value.dtype) for value in hard.values()} <= {"bool", "int8", "float32", "uint8"}
    assert len({value.dtype for value in hard.values()}) == 1
    assert all(np.isfinite(np.asarray(value)).all() for value in mask.values())


@every
def test_is_deterministic_in_the_key(name):
    method = make(name)
    weights, scores = setting(method)
    again = setting(method)[1]
    for key in SHAPES:
        np.testing.assert_array_equal(scores[key], again[key])
        np.testing.assert_array_equal(
            in_training(method, scores, weights)[key], in_training(method, scores, weights)[key]
        )


@learned
def test_gradient_is_finite_and_reaches_every_layer_or_none(name):
    """None where a method goes by the loss."""
    method = make(name)
    weights, scores = setting(method)
    state = method.init_state(scores, weights)

    def total(scores):
        found = product(method, scores, weights, state)
        return sum(
            jnp.sum(found[key] ** 2 * (1 + jnp.arange(found[key].size).reshape(SHAPES[key]).astype(jnp.float32)))
            for key in SHAPES
        )

    gradient = jax.grad(total)(scores)
    for key in ("conv1/kernel", "dense1/kernel"):
        assert np.isfinite(gradient[key]).all()
        assert np.any(gradient[key] != 0) != bool(core.asked(method.after_update, loss=0))


@every
@pytest.mark.parametrize("density", [0.05, 0.3, 1.0])
def test_density_is_exact_where_it_is_a_target(name, density):
    method = make(name, density=density)
    weights, scores = setting(method)
    hard = method.harden(scores, weights)
    kept = {key: int(np.count_nonzero(array)) for key, array in hard.items()}
    exact = {key: max(1, round(density * array.size)) for key, array in hard.items()}
    if not method.keeps_density:
        return
    if getattr(method, "allocation", "global") == "uniform":
        assert kept == exact
    assert abs(sum(kept.values()) - density * sum(array.size for array in hard.values())) <= len(SHAPES) / 2


@every
def test_hardening_is_repeatable_and_jittable(name):
    method = make(name)
    weights, scores = setting(method)
    compiled = jax.jit(method.harden)
    for key, array in method.harden(scores, weights).items():
        # Continuous masks may round otherwise where operations are fused.
        equal = np.testing.assert_allclose if array.dtype == jnp.float32 else np.testing.assert_array_equal
        equal(array, compiled(scores, weights)[key], **({"rtol": 1e-6} if array.dtype == jnp.float32 else {}))
    compiled({key: value + 1 for key, value in scores.items()}, weights)
    assert compiled._cache_size() == 1


@every
def test_training_mask_compiles_once(name):
    method = make(name)
    weights, scores = setting(method)
    compiled = jax.jit(lambda s, w, key, progress: method.mask(s, w, key=key, progress=progress))
    for step in range(3):
        compiled(scores, weights, jax.random.key(step), jnp.float32(step / 3))
    assert compiled._cache_size() == 1


@learned
@pytest.mark.parametrize("value", [0.0, 0.25, -0.25])
def test_constant_scores_do_no_harm(name, value):
    method = make(name)
    weights, scores = setting(method)
    constant = {key: jnp.full(array.shape, value, jnp.float32) for key, array in scores.items()}
    for tree in (in_training(method, constant, weights), method.harden(constant, weights)):
        assert all(np.isfinite(np.asarray(array, np.float32)).all() for array in tree.values())


@every
def test_effective_takes_numpy_and_jax_alike(name):
    method = make(name)
    weights, scores = setting(method)
    mask = {key: np.asarray(array, np.float32) for key, array in method.harden(scores, weights).items()}
    ours = method.effective(weights, mask)
    theirs = method.effective(
        {k: jnp.asarray(v) for k, v in weights.items()}, {k: jnp.asarray(v) for k, v in mask.items()}
    )
    for key in SHAPES:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-6)


# --- formulas, each against NumPy -------------------------------------------------------------------------------


def score_gradient(method, scores, weights, upstream, progress=0.4):
    state = method.init_state(scores, weights)
    return jax.vjp(lambda s: product(method, s, weights, state, progress), scores)[1](upstream)[0]


@pytest.fixture
def upstream():
    random = np.random.default_rng(5)
    return {key: jnp.asarray(random.normal(size=shape), jnp.float32) for key, shape in SHAPES.items()}


def test_edge_popup_gradient_is_g_w_sign(upstream):
    method = make("edge-popup", density=0.3)
    weights, scores = setting(method)
    gradient = score_gradient(method, scores, weights, upstream)
    for key in SHAPES:
        expected = np.asarray(upstream[key]) * weights[key] * np.sign(scores[key])
        np.testing.assert_allclose(gradient[key], expected, rtol=1e-6)


def test_edge_popup_keeps_the_largest_magnitudes():
    method = make("edge-popup", density=0.25)
    weights, scores = setting(method)
    magnitude = np.abs(scores["dense1/kernel"])
    mask = np.asarray(method.harden(scores, weights)["dense1/kernel"])
    assert magnitude[mask].min() >= magnitude[~mask].max()


def test_edge_popup_by_value_ranks_signed_scores(upstream):
    method = make("edge-popup", density=0.3, rank="value")
    weights, scores = setting(method)
    gradient = score_gradient(method, scores, weights, upstream)
    for key, array in method.harden(scores, weights).items():
        np.testing.assert_allclose(gradient[key], np.asarray(upstream[key]) * weights[key], rtol=1e-6)
        kept, score = np.asarray(array), np.asarray(scores[key])
        assert kept.sum() == max(1, round(0.3 * kept.size))
        assert kept.all() or score[kept].min() >= score[~kept].max()


@pytest.mark.parametrize("rank", ["magnitude", "value"])
@pytest.mark.parametrize("density", [0.001, 0.1, 0.77, 1.0])
def test_edge_popup_over_all_layers_keeps_the_density_exactly(rank, density):
    method = make("edge-popup", density=density, rank=rank, allocation="global")
    weights, scores = setting(method)
    together = np.concatenate([np.asarray(scores[key]).ravel() for key in SHAPES])
    together = np.abs(together) if rank == "magnitude" else together
    expected = np.zeros(together.size, bool)
    expected[np.argsort(-together, kind="stable")[: max(1, round(density * together.size))]] = True
    mask = method.harden(scores, weights)
    np.testing.assert_array_equal(np.concatenate([np.asarray(mask[key]).ravel() for key in SHAPES]), expected)


@pytest.mark.parametrize("options", [{"rank": "size"}, {"allocation": "all"}])
def test_edge_popup_refuses_other_words(options):
    with pytest.raises(UsageError, match="unknown"):
        make("edge-popup", **options)


@pytest.mark.parametrize("rescale", [True, False])
def test_bernoulli_gradient(rescale, upstream):
    method = make("bernoulli", rescale=rescale, density=0.4)
    weights, _ = setting(method)
    random = np.random.default_rng(1)
    scores = {key: jnp.asarray(random.normal(size=shape), jnp.float32) for key, shape in SHAPES.items()}
    gradient = score_gradient(method, scores, weights, upstream)
    mask = in_training(method, scores, weights)
    for key in ("conv1/kernel", "dense1/kernel"):
        g, m, w = (np.asarray(tree[key], np.float64) for tree in (upstream, mask, weights))
        sigma = 1 / (1 + np.exp(-np.asarray(scores[key], np.float64)))
        assert set(np.unique(m)) == {0.0, 1.0}
        slope = g * w
        if rescale:  # d/dm_i of sum_j g_j w_j m_j n / sum(m)
            slope = (g * w * m.size) / m.sum() - (g * w * m).sum() * m.size / m.sum() ** 2
        np.testing.assert_allclose(gradient[key], slope * sigma * (1 - sigma), rtol=2e-4, atol=1e-6)


def test_bernoulli_rescaling_keeps_the_sum_of_a_constant_layer():
    method = make("bernoulli")
    weights = {"k": np.ones((30, 20), np.float32)}
    mask = {"k": np.asarray(np.random.default_rng(0).random((30, 20)) < 0.2, np.float32)}
    assert (method.effective(weights, mask)["k"] * mask["k"]).sum() == pytest.approx(600, rel=1e-5)
    empty = {"k": np.zeros((30, 20), np.float32)}
    assert (method.effective(weights, empty)["k"] * empty["k"] == 0).all()


def test_bernoulli_starts_at_the_density_and_hardens_as_asked():
    sampled = make("bernoulli", density=0.2)
    weights, scores = setting(sampled)
    assert np.asarray(sampled.harden(scores, weights)["dense1/kernel"]).mean() / 255 == pytest.approx(0.2, abs=1 / 255)
    binary = make("bernoulli", hard="threshold")
    trained = {"dense1/kernel": jnp.asarray([[-1.0, 0.0, 2.0]])}
    np.testing.assert_array_equal(binary.harden(trained, trained)["dense1/kernel"], [[False, True, True]])


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_sigmoid_mask_and_gradient(progress, upstream):
    method = make("sigmoid", temperature=2.0, final_temperature=0.02)
    weights, _ = setting(method)
    random = np.random.default_rng(1)
    scores = {key: jnp.asarray(random.normal(size=shape) * 0.1, jnp.float32) for key, shape in SHAPES.items()}
    temperature = 2.0 * 0.01**progress
    mask = in_training(method, scores, weights, progress)
    gradient = score_gradient(method, scores, weights, upstream, progress)
    for key in SHAPES:
        sigma = 1 / (1 + np.exp(-np.asarray(scores[key], np.float64) / temperature))
        np.testing.assert_allclose(mask[key], sigma, rtol=1e-4, atol=1e-6)
        expected = np.asarray(upstream[key]) * weights[key] * sigma * (1 - sigma) / temperature
        np.testing.assert_allclose(gradient[key], expected, rtol=1e-3, atol=1e-5)


def test_sigmoid_gradient_by_finite_differences():
    method = make("sigmoid")
    weights = draw("kaiming-normal", 0, {"k": (3, 2)})
    scores = {"k": jnp.asarray(np.random.default_rng(0).normal(size=(3, 2)), jnp.float32) * 0.3}

    def total(s):
        return float(
            jnp.sum(method.mask({"k": s}, weights, key=KEY, progress=jnp.float32(0.2))["k"] * weights["k"] ** 2)
        )

    gradient = jax.grad(
        lambda s: jnp.sum(method.mask(s, weights, key=KEY, progress=jnp.float32(0.2))["k"] * weights["k"] ** 2)
    )(scores)
    for index in np.ndindex(3, 2):
        step = jnp.zeros((3, 2), jnp.float32).at[index].set(1e-2)
        numeric = (total(scores["k"] + step) - total(scores["k"] - step)) / 2e-2
        assert float(gradient["k"][index]) == pytest.approx(numeric, rel=2e-2, abs=1e-4)


def test_sigmoid_hardens_to_binary_or_continuous():
    scores = {"k": jnp.asarray([[-0.001, 0.0, 0.004]], jnp.float32)}
    np.testing.assert_array_equal(make("sigmoid").harden(scores, scores)["k"], [[False, False, True]])
    soft = make("sigmoid", hard="continuous").harden(scores, scores)["k"]
    np.testing.assert_allclose(soft, 1 / (1 + np.exp(-np.array([[-0.001, 0.0, 0.004]]) / 0.005)), rtol=1e-5)


def test_magnitude_keeps_the_largest_weights_and_refuses_equal_ones():
    method = make("magnitude", density=0.3)
    weights, scores = setting(method)
    mask = np.asarray(method.harden(scores, weights)["dense1/kernel"])
    size = np.abs(weights["dense1/kernel"])
    assert size[mask].min() >= size[~mask].max()
    with pytest.raises(Exception, match="magnitude cannot rank conv1/kernel"):
        method.init(KEY, draw("signed-constant", 0, SHAPES), CONTEXT)


def test_random_masks_differ_between_keys():
    method = make("random")
    weights, _ = setting(method)
    one, two = (
        method.harden(method.init(jax.random.key(i), weights, CONTEXT), weights)["dense1/kernel"] for i in (0, 1)
    )
    assert not np.array_equal(one, two)


@pytest.mark.parametrize(
    ("name", "options"),
    [("bernoulli", {"hard": "x"}), ("sigmoid", {"hard": "x"}), ("sigmoid", {"final_temperature": 2.0})],
)
def test_bad_options_are_refused(name, options):
    with pytest.raises(UsageError):
        make(name, **options)
