"""Budgets of layers against NumPy, exact sums, and patterns."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from supermask import masks
from supermask.errors import UsageError
from supermask.masks.allocation import ALLOCATIONS, allocate, in_order, parse_overrides

SHAPES = {
    "conv1/kernel": (3, 3, 3, 16),
    "conv2/kernel": (3, 3, 16, 32),
    "conv10/kernel": (3, 3, 32, 32),
    "dense1/kernel": (512, 64),
    "head/kernel": (64, 10),
}
SIZES = {name: math.prod(shape) for name, shape in SHAPES.items()}
TOTAL = sum(SIZES.values())


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("density", [0.02, 0.1, 0.37, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("overrides", [{}, {"head/kernel": 1.0}, {"conv1/kernel": 1.0, "head/kernel": 0.5}])
def test_budgets_sum_to_the_density_exactly(allocation, density, overrides):
    if density == 1.0 and overrides.get("head/kernel") == 0.5:
        with pytest.raises(UsageError, match=r"leaves .* for the 3 layers"):
            allocate(SHAPES, density, allocation, overrides)
        return
    counts, together = allocate(SHAPES, density, allocation, overrides)
    if allocation == "uniform" and not overrides:
        assert counts == {name: round(density * size) for name, size in SIZES.items()}
        return
    assert sum(counts.values()) + together == round(density * TOTAL)
    assert all(1 <= count <= SIZES[name] for name, count in counts.items())
    assert counts.keys() == (overrides.keys() if allocation == "global" else SHAPES.keys())
    for name, own in overrides.items():
        assert counts[name] == round(own * SIZES[name])


@pytest.mark.parametrize("allocation", ["er", "erk"])
def test_erdos_renyi_is_proportional_to_its_formula(allocation):
    counts, _ = allocate(SHAPES, 0.05, allocation)
    raw = {}
    for name, shape in SHAPES.items():
        kernel, (fan_in, fan_out) = shape[:-2], shape[-2:]
        raw[name] = (fan_in + fan_out) / (fan_in * fan_out)
        if allocation == "erk":
            raw[name] = (fan_in + fan_out + sum(kernel)) / (fan_in * fan_out * math.prod(kernel))
    open_layers = [name for name in SHAPES if counts[name] < SIZES[name]]
    factors = [counts[name] / SIZES[name] / raw[name] for name in open_layers if SIZES[name] > 1000]
    assert len(factors) >= 3
    np.testing.assert_allclose(factors, factors[0], rtol=0.01)
    assert all(factors[0] * raw[name] >= 0.99 for name in SHAPES if name not in open_layers)


def test_smart_ratio_is_its_formula_and_pushes_surplus_on():
    counts, _ = allocate(SHAPES, 0.1, "smart-ratio")
    names = in_order(SHAPES)
    assert names == ["conv1/kernel", "conv2/kernel", "conv10/kernel", "dense1/kernel", "head/kernel"]
    assert counts["head/kernel"] == pytest.approx(0.3 * SIZES["head/kernel"], abs=1)
    depth = len(names)
    raw = [((depth - i + 1) ** 2 + depth - i + 1) / i**2 for i in range(1, depth)]
    budget = round(0.1 * TOTAL) - 0.3 * SIZES["head/kernel"]
    gamma = budget / sum(r * SIZES[name] for r, name in zip(raw, names, strict=False))
    surplus = 0.0
    for r, name in zip(raw, names, strict=False):
        wanted = gamma * r * SIZES[name] + surplus
        surplus = max(0.0, wanted - SIZES[name])
        assert counts[name] == pytest.approx(wanted - surplus, abs=1.5)
    assert counts["conv1/kernel"] == SIZES["conv1/kernel"]  # it would overfill, so the surplus was exercised
    with pytest.raises(UsageError, match="smart-ratio keeps"):
        allocate(SHAPES, 0.001, "smart-ratio")


def test_overrides_name_layers_by_pattern():
    assert parse_overrides("*/kernel=0.5,head/*=1.0", SHAPES) == dict.fromkeys(SHAPES, 0.5) | {"head/kernel": 1.0}
    for text, complaint in (
        ("tail/*=1.0", "no layer matches tail"),
        ("head/*=2", "PATTERN=DENSITY"),
        ("head/*", "PATTERN=DENSITY"),
        ("head/*=0", "PATTERN=DENSITY"),
    ):
        with pytest.raises(UsageError, match=complaint):
            parse_overrides(text, SHAPES)


@pytest.mark.parametrize("pattern", ["1:1", "1:2", "2:4", "1:4", "3:7", "8:8"])
@pytest.mark.parametrize("shape", [(8, 5), (30, 4), (3, 3, 3, 6), (1, 1), (2, 2, 4, 3)])
@pytest.mark.parametrize("ties", [False, True])
def test_pattern_keeps_the_best_of_every_group(pattern, shape, ties):
    random = np.random.default_rng(1)
    values = random.integers(0, 3, shape) if ties else random.random(shape)
    best, group = map(int, pattern.split(":"))
    rows = values.reshape(-1, shape[-1])
    expected = np.zeros(rows.shape, bool)
    for start in range(0, len(rows), group):
        part = rows[start : start + group]
        count = best if len(part) == group else math.ceil(best * len(part) / group)
        for column in range(shape[-1]):
            expected[start + np.argsort(-part[:, column], kind="stable")[:count], column] = True
    found = masks.best_of_groups(jnp.asarray(values, jnp.float32), pattern)
    np.testing.assert_array_equal(found, expected.reshape(shape))


@pytest.mark.parametrize("pattern", ["4:2", "0:4", "2-4", "2:40", "", "a:b"])
def test_other_patterns_are_refused(pattern):
    with pytest.raises(UsageError, match="not of the form N:M"):
        masks.parse_pattern(pattern)


def test_a_later_draw_of_a_weight_is_one_of_its_layer_and_independent_of_the_first():
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(100, 200)), jnp.float32)
    first = masks.redrawn(weights, jnp.zeros((100, 200)))
    np.testing.assert_array_equal(first, weights)
    second, third = (masks.redrawn(weights, jnp.full((100, 200), float(g))) for g in (1, 2))
    assert np.isin(np.asarray(second), np.asarray(weights)).all()
    for a, b in ((first, second), (second, third), (first, third)):
        assert abs(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]) < 0.03  # four deviations for 20,000 pairs
    assert float(np.mean(second)) == pytest.approx(float(np.mean(weights)), abs=0.03)
    assert float(np.std(second)) == pytest.approx(float(np.std(weights)), rel=0.03)
    # Neighbours do not come from neighbours.
    assert abs(np.corrcoef(np.ravel(second)[1:], np.ravel(second)[:-1])[0, 1]) < 0.03


def test_top_k_takes_a_traced_count():
    import jax

    values = jnp.asarray(np.random.default_rng(0).random(5000), jnp.float32)
    select = jax.jit(masks.top_k)
    for k in (1, 77, 4999, 5000):
        expected = np.zeros(5000, bool)
        expected[np.argsort(-np.asarray(values), kind="stable")[:k]] = True
        np.testing.assert_array_equal(select(values, jnp.int32(k)), expected)
    assert select._cache_size() == 1
