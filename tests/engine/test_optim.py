"""The optimisers against their formulas, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from supermask import registry
from supermask.config import SearchConfig
from supermask.engine.optim import advanced, make_optimizer
from supermask.errors import UsageError

SLOPES = np.random.default_rng(0).normal(size=(6, 2, 3)).astype(np.float32) * 3
START = {"a": np.float32([1.0, -2.0, 0.5]), "b": np.float32([0.1, 0.0, -3.0])}


def moved(steps_per_epoch=2, **settings):
    """The values after each step."""
    config = SearchConfig(**{"learning_rate": 0.1, "momentum": 0.9, "schedule": "constant", "epochs": 3} | settings)
    optimizer, values = make_optimizer(config, steps_per_epoch), START
    state, found = optimizer.init(values), []
    for first, second in SLOPES:
        updates, state = optimizer.update({"a": first, "b": second}, state, values)
        values = optax.apply_updates(values, updates)
        found.append(np.stack([values["a"], values["b"]]))
    return np.stack(found)


def by_hand(rates, decay=0.0, clip=np.inf, decoupled=False):
    values, first, second, found = np.stack([START["a"], START["b"]]).astype(float), 0.0, 0.0, []
    for step, (slope, rate) in enumerate(zip(SLOPES.astype(float), rates, strict=True), start=1):
        slope = slope * min(1, clip / np.sqrt((slope**2).sum()))
        slope = slope if decoupled else slope + decay * values
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        update = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        values = values - rate * (update + (decay * values if decoupled else 0))
        found.append(values)
    return np.stack(found)


@pytest.mark.parametrize("decoupled", [False, True])
def test_the_decay_of_adam_is_in_the_gradient_and_that_of_adamw_is_not(decoupled):
    found = moved(optimizer="adamw" if decoupled else "adam", weight_decay=0.5)
    np.testing.assert_allclose(found, by_hand([0.1] * 6, decay=0.5, decoupled=decoupled), rtol=1e-5, atol=2e-6)


def test_a_gradient_is_clipped_by_the_norm_over_all_arrays():
    assert min(np.sqrt((SLOPES**2).sum((1, 2)))) > 0.5
    found = moved(optimizer="adam", weight_decay=0.0, clip=0.5)
    np.testing.assert_allclose(found, by_hand([0.1] * 6, clip=0.5), rtol=1e-5, atol=2e-6)
    unclipped = moved(optimizer="adam", weight_decay=0.0)
    np.testing.assert_array_equal(moved(optimizer="adam", weight_decay=0.0, clip=1e6), unclipped)


def test_the_gradient_of_each_array_is_clipped_by_its_own_norm():
    limit, found = 3.0, moved(optimizer="sgd", momentum=0.0, weight_decay=0.0, clip_each=3.0)
    norms = np.sqrt((SLOPES.astype(float) ** 2).sum(2))
    assert (norms > limit).any()
    assert (norms < limit).any()
    clipped = SLOPES * np.minimum(1, limit / norms)[..., None]
    np.testing.assert_allclose(
        found, np.stack(list(START.values())) - 0.1 * np.cumsum(clipped, 0), rtol=1e-5, atol=1e-6
    )


def test_the_staircase_of_steps():
    optimizer = make_optimizer(
        SearchConfig(learning_rate=0.1, momentum=0.0, optimizer="sgd", schedule="step-staircase", epochs=30), 468
    )
    for step, cuts in ((0, 0), (3899, 0), (3900, 1), (46_800, 12)):
        state = advanced(optimizer.init(START), step)
        updates, _ = optimizer.update(dict.fromkeys(START, np.ones(3, np.float32)), state, START)
        np.testing.assert_allclose(updates["a"], -0.1 * 0.96**cuts, rtol=1e-6)


def test_a_schedule_that_runs_through_several_times():
    """Three epochs of two steps in two cycles: the first has two epochs, the second one."""
    found = moved(optimizer="sgd", momentum=0.0, weight_decay=0.0, schedule="cosine", cycles=2)
    rates = 0.1 * np.float64([1, 1, 0.5, 0.5, 1, 1])[:, None, None]
    np.testing.assert_allclose(
        found, np.stack(list(START.values())) - np.cumsum(rates * SLOPES, 0), rtol=1e-5, atol=1e-6
    )
    for wrong, words in (
        ({"cycles": 4, "schedule": "cosine"}, "at most the number of epochs, 3"),
        ({"cycles": 2}, "constant has none"),
    ):
        with pytest.raises(UsageError, match=words):
            moved(optimizer="sgd", **wrong)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [("constant", [1, 1, 1, 1, 1, 1]), ("cosine", [1, 1, 0.75, 0.75, 0.25, 0.25])],
)
def test_the_learning_rate_rises_over_the_warmup_and_follows_its_schedule_then(schedule, factors):
    """Of two epochs of two steps each, in a training of three."""
    rates = 0.1 * np.float64(factors) * [0.25, 0.5, 0.75, 1, 1, 1]
    found = moved(optimizer="adam", weight_decay=0.0, schedule=schedule, warmup=2.0)
    np.testing.assert_allclose(found, by_hand(rates), rtol=1e-5, atol=2e-6)


def test_no_warmup_leaves_every_bit_as_it_was():
    for schedule in "constant", "cosine":
        without = moved(optimizer="sgd", weight_decay=0.1, schedule=schedule)
        np.testing.assert_array_equal(moved(optimizer="sgd", weight_decay=0.1, schedule=schedule, warmup=0.0), without)


def test_what_is_not_set_is_not_written():
    """So that the files and the names of runs are those of versions without these options."""
    assert not {"clip", "warmup", "clip_each", "label_smoothing", "cycles", "order"} & SearchConfig().to_dict().keys()
    assert SearchConfig(clip=0.5, warmup=1.0).to_dict()["clip"] == 0.5
    assert SearchConfig.from_dict(SearchConfig(warmup=1.0).to_dict()).warmup == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"clip": 0.0},
        {"clip_each": 0.0},
        {"cycles": 0},
        {"label_smoothing": 1.0},
        {"warmup": -1.0},
        {"optimizer": "lion"},
    ],
)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        SearchConfig(**wrong)


def test_the_schedule_is_traced_once():
    """A step counted in Python would compile anew in each step."""
    config = SearchConfig(learning_rate=0.1, optimizer="adamw", weight_decay=0.1, schedule="cosine", epochs=2, warmup=1)
    optimizer = make_optimizer(config, 2)
    update = jax.jit(optimizer.update)
    state = optimizer.init(START)
    for _ in range(3):
        _, state = update(START, state, START)
    assert update._cache_size() == 1


def test_each_client_of_fedpm_keeps_its_moments():
    """Two clients of three steps an epoch, against two optimisers of their own."""
    method = registry.load("methods", "fedpm")(clients=2, local_epochs=1)
    config = SearchConfig(optimizer="adam", learning_rate=0.1, momentum=0.9, schedule="constant", epochs=4)
    both = make_optimizer(config, 6, method.turns(6))
    alone = make_optimizer(config, 6)
    values, rng = {"k": jnp.zeros(5)}, np.random.default_rng(0)
    state, own = both.init(values), [alone.init(values), alone.init(values)]
    for step in range(24):
        found = {"k": jnp.asarray(rng.normal(size=5), jnp.float32)}
        client = step // 3 % 2
        expected, own[client] = alone.update(found, own[client], values)
        updates, state = both.update(found, state, values)
        np.testing.assert_allclose(updates["k"], expected["k"], rtol=1e-6)
    assert registry.load("methods", "fedpm")(clients=2, rounds="fresh").turns(6) == (1, 1)
    assert registry.load("methods", "edge-popup")().turns(6) == (1, 1)
    assert optax.tree_utils.tree_get(state, "count").shape == (2,)
