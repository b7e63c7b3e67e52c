"""The numeric kernel against a NumPy oracle."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supermask import masks

pytestmark = pytest.mark.usefixtures("strict")


def oracle(values, k):
    """Stable sort: the k largest, ties to the lower index."""
    order = np.argsort(-values.ravel().astype(np.float64), kind="stable")
    mask = np.zeros(values.size, bool)
    mask[order[:k]] = True
    return mask.reshape(values.shape)


def example(kind, size, seed=0):
    random = np.random.default_rng(seed)
    values = {
        "normal": np.abs(random.normal(size=size)),
        "ties": random.integers(0, 5, size) / 4,
        "constant": np.full(size, 0.25),
        "zeros": np.zeros(size),
        "tiny": random.uniform(0, 1e-42, size),  # subnormal in float32
        "huge": random.uniform(0, 3e38, size),
        "wide": 10.0 ** random.uniform(-40, 38, size),
    }[kind]
    return values.astype(np.float32)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("density", [1e-9, 0.1, 0.5, 0.9, 1.0])
def test_top_k_is_the_stable_sort(size, density):
    k = masks.kept_count(density, size)
    for kind in ("normal", "ties", "constant", "zeros", "tiny", "huge", "wide"):
        values = example(kind, size)
        found = np.asarray(masks.top_k(values, k))
        assert found.sum() == k, kind
        np.testing.assert_array_equal(found, oracle(values, k), err_msg=kind)


@pytest.mark.parametrize("density", [1e-5, 0.02, 0.5, 0.9, 0.99999])
def test_large_arrays_are_selected_as_exactly(density):
    size = 40_000
    k = masks.kept_count(density, size)
    for kind in ("normal", "ties", "constant", "tiny", "huge", "wide", "sorted", "periodic"):
        values = (
            np.sort(example("normal", size)) if kind == "sorted" else example(kind.replace("periodic", "normal"), size)
        )
        if kind == "periodic":  # the sample sees nothing but the small ones
            values[:: size // 8192] *= 1e-6
        found = np.asarray(masks.top_k(values, k))
        assert found.sum() == k, kind
        np.testing.assert_array_equal(found, oracle(values, k), err_msg=kind)


@pytest.mark.parametrize("density", [1e-5, 0.3, 0.5, 1.0])
def test_cuts_that_are_carried_on_are_found_for_whatever_the_arrays_have_become(density):
    sizes = {"normal": 40_000, "ties": 17_001, "constant": 999, "zeros": 3, "tiny": 20_000, "huge": 1, "wide": 5_000}
    random = np.random.default_rng(1)
    signs = [random.choice([-1, 1], size).astype(np.float32) for size in sizes.values()]
    counts = [masks.kept_count(density, size) for size in sizes.values()]

    def arrays(kinds, scale=1.0, seed=0):
        pairs = zip(kinds, sizes.values(), signs, strict=True)
        return [example(kind, size, seed) * np.float32(scale) * sign for kind, size, sign in pairs]

    def check(values, cuts):
        for array, k, cut in zip(values, counts, np.asarray(cuts).T, strict=True):
            found = np.asarray(masks.beyond(jnp.asarray(array), *cut[:2]))
            np.testing.assert_array_equal(found, oracle(np.abs(array), k))

    follow = jax.jit(lambda values, cuts: masks.next_cuts(values, counts, cuts))
    cuts = masks.first_cuts(arrays(sizes), counts)
    check(arrays(sizes), cuts)
    # The same again, a little later, something else, and back.
    moved = [arrays(sizes), arrays(sizes, scale=1.001), arrays(reversed(sizes), seed=2), arrays(sizes, seed=3)]
    for values in moved:
        cuts = follow(values, cuts)
        check(values, cuts)
        assert ((np.asarray(cuts)[2] >= 1) & (np.asarray(cuts)[2] <= 2**28)).all()


def test_top_k_keeps_the_shape_and_works_under_vmap():
    values = example("ties", 3 * 4 * 5 * 6).reshape(3, 4, 5, 6)
    found = jax.vmap(lambda v: masks.top_k(v, 17))(values)
    for i in range(3):
        np.testing.assert_array_equal(found[i], oracle(values[i], 17))


@pytest.mark.parametrize(
    ("density", "size", "kept"), [(0.5, 10, 5), (0.7, 10, 7), (0.9, 10, 9), (0.3, 10, 3), (1e-6, 10, 1), (1.0, 3, 3)]
)
def test_kept_count(density, size, kept):
    assert masks.kept_count(density, size) == kept


def test_straight_through_has_the_value_of_hard_to_the_bit_and_the_gradient_of_soft():
    soft = jnp.asarray(np.random.default_rng(0).normal(size=1000), jnp.float32) * 1e3
    hard = soft > 0
    value, pull_back = jax.vjp(lambda s: masks.straight_through(hard, jnp.abs(s)), soft)
    np.testing.assert_array_equal(value, np.asarray(hard, np.float32))
    np.testing.assert_array_equal(pull_back(jnp.ones_like(soft))[0], np.sign(soft))


@pytest.mark.parametrize(
    ("scores", "draw"),
    [(masks.spread_scores, partial(jax.random.uniform, minval=-1.0)), (masks.normal_scores, jax.random.normal)],
)
def test_initial_scores_are_those_that_jax_draws_in_the_shape_of_the_weights(scores, draw):
    key, weights = jax.random.key(3), {"conv": jnp.zeros((3, 3, 4, 8)), "dense": jnp.zeros((9, 5))}
    found = scores(key, weights, lambda fan_in, fan_out: 2.0)
    for name, like in weights.items():
        np.testing.assert_array_equal(found[name], 2.0 * draw(masks.key_for(key, name), like.shape))


def test_bernoulli_draws_with_its_probability_and_by_name():
    p = {name: jnp.full((200, 500), 0.3, jnp.float32) for name in ("a", "b")}
    drawn = masks.bernoulli(jax.random.key(0), p)
    assert np.mean(drawn["a"]) == pytest.approx(0.3, abs=0.01)
    assert not np.array_equal(drawn["a"], drawn["b"])
    np.testing.assert_array_equal(drawn["b"], masks.bernoulli(jax.random.key(0), {"b": p["b"]})["b"])


def test_noise_is_uniform_and_independent_of_place_and_step():
    size, first = 1 << 18, np.asarray(masks.uniform(jax.random.key(0), (1 << 18,)))
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() < 1
    # Kolmogorov-Smirnov, and chi-square over each of the 24 bits, at about one in ten thousand.
    distance = np.abs(np.sort(first) - (np.arange(size) + 0.5) / size).max()
    assert distance < 2.2 / np.sqrt(size)
    bits = (first * 2**24).astype(np.int64)
    for bit in range(24):
        assert abs(((bits >> bit) & 1).mean() - 0.5) < 4 / (2 * np.sqrt(size))
    others = [np.asarray(masks.uniform(jax.random.key(i), (size,))) for i in (1, 2)]
    shifted = [np.roll(first, shift) for shift in (1, 2, 64, 256, 1000)]
    for other in [*others, *shifted, np.sort(others[0])]:
        assert abs(np.corrcoef(first, other)[0, 1]) < 4 / np.sqrt(size)
    pairs = np.histogram2d(first[:-1], first[1:], bins=16)[0]
    assert abs(((pairs - pairs.mean()) ** 2 / pairs.mean()).sum() - 255) < 4 * np.sqrt(2 * 255)
    assert len(set(bits.tolist())) > 0.99 * size * (1 - size / 2**25)


def test_sampled_masks_keep_certain_weights_certainly():
    counts = jnp.array([0, 255] * 1000, jnp.uint8)
    np.testing.assert_array_equal(masks.draw_255(jax.random.key(0), counts), np.array([False, True] * 1000))


@pytest.mark.parametrize("k", [1, 7, 5000, 14_999, 15_003])
def test_top_k_over_layers_is_the_top_k_of_all_together(k):
    random = np.random.default_rng(k)
    tree = {"b": random.integers(0, 50, (100, 150)), "a": random.integers(0, 50, (3,))}  # full of ties
    tree = {name: array.astype(np.float32) for name, array in tree.items()}
    together = np.concatenate([array.ravel() for array in tree.values()])
    expected = np.zeros(together.size, bool)
    expected[np.argsort(-together, kind="stable")[:k]] = True
    found = masks.over_layers(masks.top_k, {name: jnp.asarray(array) for name, array in tree.items()}, k)
    assert {name: m.shape for name, m in found.items()} == {name: array.shape for name, array in tree.items()}
    np.testing.assert_array_equal(np.concatenate([np.asarray(m).ravel() for m in found.values()]), expected)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.5, 0.7, 0.999])
@pytest.mark.parametrize("values", ["normal", "ties", "all negative", "all equal"])
@pytest.mark.parametrize("size", [5, 3000, 20_000])
def test_top_k_signed_is_a_stable_sort(size, values, share):
    random = np.random.default_rng(size)
    drawn = {
        "normal": random.normal(size=size),
        "ties": random.integers(-3, 4, size),
        "all negative": -random.random(size) - 1e-30,
        "all equal": np.full(size, -0.5),
    }[values].astype(np.float32)
    k = max(1, round(share * size))
    expected = np.zeros(size, bool)
    expected[np.argsort(-drawn, kind="stable")[:k]] = True
    np.testing.assert_array_equal(masks.top_k_signed(jnp.asarray(drawn), k), expected)
