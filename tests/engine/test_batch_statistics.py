"""Batch statistics belong to the result that is scored: the mean over training batches, whatever the momentum."""

import dataclasses
import math

import jax
import numpy as np
import pytest
from flax import nnx
from helpers import problem_of, tickets_of, watch

import supermask
from supermask.core import mask_search, weight_training
from supermask.engine.batch_statistics import BATCHES, BatchStatistics, estimate
from supermask.engine.saliency import first_scores
from supermask.engine.trainer import Trainer

pytestmark = pytest.mark.usefixtures("compiled_quickly")

NORMED, CONVOLVED = (f"tests.engine.test_batch_statistics:{name}" for name in ("Normed", "Convolved"))


class Normed(nnx.Module):
    """Two dense layers; Flax's default momentum."""

    def __init__(self, image_shape, classes, rngs, momentum=0.99):
        self.dense = nnx.Linear(math.prod(image_shape), 32, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(32, momentum=momentum, rngs=rngs)
        self.head = nnx.Linear(32, classes, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.head(jax.nn.relu(self.norm(self.dense(x.reshape(len(x), -1)))))


class Convolved(nnx.Module):
    """One convolution, so that two devices share a batch."""

    def __init__(self, image_shape, classes, rngs):
        self.conv = nnx.Conv(image_shape[-1], 4, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.head = nnx.Linear(4, classes, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.head(self.norm(self.conv(x)).mean((1, 2)))


def fitted(config):
    """(trainer, state, frozen) of seed 3 after all epochs."""
    problem = problem_of(config)
    weights = problem.weights(3)
    if problem.method is None:
        rule, frozen, start = weight_training, {}, (weights, {})
    else:
        rule, frozen, start = mask_search(problem.method), weights, first_scores(problem)(3, weights)
    trainer = Trainer(problem, rule, problem.side_by_side(1))
    frozen = trainer.place([frozen])
    state = trainer.fit(trainer.init([3], [start]), frozen, problem.config.epochs)
    return trainer, state, frozen


def batches_of(problem, seed):
    """The stated training batches, as inputs: the first of a random order that the seed decides."""
    train, size = problem.dataset.train, problem.pipeline.batch_size
    order = np.argsort(np.random.Philox(key=seed).random_raw(len(train)), kind="stable")
    count = min(BATCHES, len(train) // size)
    images = train.inputs[order[: count * size]].reshape(count, size, *train.inputs.shape[1:])
    return (images / 255 - problem.dataset.mean) / problem.dataset.std


# --- the estimate by itself

VALUES = np.random.default_rng(0).normal(5, 2, (8, 2, 6)).astype(np.float32)
"""The own values of 8 batches, for two seeds."""


def averaging(momentum, values=VALUES):
    m = np.float32(momentum)
    return lambda i, state: {"mean": m * state["mean"] + (1 - m) * values[i]}


@pytest.mark.parametrize("start", [0.0, 1e4])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99, 0.999])
def test_a_running_average_becomes_the_plain_mean_from_any_start(momentum, start):
    state = {"mean": np.full((2, 6), start, np.float32)}
    found = estimate(averaging(momentum), state, len(VALUES))["mean"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, VALUES.mean(0), rtol=1e-5 if momentum < 0.999 else 1e-4)


def test_no_seed_depends_on_the_seed_beside_it():
    start = np.random.default_rng(1).normal(size=(2, 6)).astype(np.float32)
    both = estimate(averaging(0.99), {"mean": start}, 8)["mean"]
    for i in range(2):
        alone = estimate(averaging(0.99, VALUES[:, i : i + 1]), {"mean": start[i : i + 1]}, 8)["mean"]
        np.testing.assert_array_equal(alone[0], both[i])


RULES = {
    "counter": (np.array([7, 7]), lambda a, x: a + 1),
    "counter in floats": (np.full(2, 7, np.float32), lambda a, x: a + 1),
    "total": (np.ones((2, 6), np.float32), lambda a, x: a + x),
    "schedule": (np.full(2, 0.5, np.float32), lambda a, x: a * np.float32(0.99)),
    "buffer": (np.ones((2, 3), np.float32), lambda a, x: a),
    "switch": (np.array([[True], [False]]), lambda a, x: a),
}


@pytest.mark.parametrize("kind", RULES)
def test_state_that_is_no_average_stays_as_it_is(kind):
    start, rule = RULES[kind]

    def apply(i, state):
        return averaging(0.9)(i, state) | {"other": rule(state["other"], VALUES[i])}

    found = estimate(apply, {"mean": np.zeros((2, 6), np.float32), "other": start}, 8)
    np.testing.assert_array_equal(found["other"], start)
    assert found["other"].dtype == start.dtype
    np.testing.assert_allclose(found["mean"], VALUES.mean(0), rtol=1e-5)


def test_an_average_of_zeros_is_zero():
    """A layer that keeps no weight has them; only a scalar that decays is taken for a schedule."""
    state = {"mean": np.ones((2, 6), np.float32)}
    np.testing.assert_allclose(estimate(averaging(0.9, VALUES * 0), state, 8)["mean"], 0, atol=1e-6)


def test_what_a_power_iteration_leads_to_does_not_hide_the_averages_behind_it():
    matrix = np.diag([4, 2, 1]).astype(np.float32)

    def apply(i, state):
        vector = state["vector"] @ matrix
        norm = np.linalg.norm(vector, axis=-1, keepdims=True)
        return averaging(0.99, VALUES / norm)(i, state) | {"vector": vector / norm, "norm": norm}

    start = np.full((2, 3), 3**-0.5, np.float32)
    state = {"mean": np.zeros((2, 6), np.float32), "vector": start, "norm": np.ones((2, 1), np.float32)}
    found = estimate(apply, state, 8)
    np.testing.assert_allclose(found["vector"], [[1, 0, 0]] * 2, atol=0.01)
    norms, vector = [], start
    for _ in range(8):
        vector = vector @ matrix
        norms.append(np.linalg.norm(vector, axis=-1, keepdims=True))
        vector = vector / norms[-1]
    np.testing.assert_allclose(found["norm"], np.mean(norms, 0), rtol=1e-5)
    np.testing.assert_allclose(found["mean"], (VALUES / norms).mean(0), rtol=1e-5)


# --- of networks


@pytest.mark.parametrize(
    "config", [supermask.SearchConfig, pytest.param(supermask.TrainConfig, marks=pytest.mark.slow)]
)
def test_the_statistics_are_those_of_the_result_over_the_stated_batches(config):
    trainer, state, frozen = fitted(config(arch=NORMED, epochs=2))
    [candidate], problem = state.last, trainer.problem
    name, masked = "dense/kernel", problem.method is not None
    kernel = problem.weights(3)[name] * candidate.result[name] if masked else candidate.result[name]
    batches = batches_of(problem, 3)
    outputs = batches.reshape(*batches.shape[:2], -1) @ kernel
    np.testing.assert_allclose(candidate.model_state["norm/mean"], outputs.mean(1).mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(candidate.model_state["norm/var"], outputs.var(1).mean(0), rtol=1e-4)
    late = jax.device_get(state.train.model_state)["norm/var"][0]  # what the training itself has left
    assert abs(late / outputs.var(1).mean(0) - 1).max() > 0.1
    sums = trainer.evaluate(state, frozen, problem.dataset.validation)
    assert (sums.correct / sums.count)[0, 0] == candidate.metrics["val_accuracy"]


@pytest.mark.slow
def test_a_module_s_momentum_changes_neither_mask_nor_score():
    """The training looks at no running average, so a late one must not decide what a mask is worth."""
    tickets = [
        supermask.search(supermask.SearchConfig(arch=NORMED, arch_options={"momentum": m}, epochs=3))[0]
        for m in (0.5, 0.99)
    ]
    quick, slow = tickets
    for name, mask in quick.mask.items():
        np.testing.assert_array_equal(mask, slow.mask[name])
    for name, array in quick.state.items():
        np.testing.assert_allclose(array, slow.state[name], rtol=1e-4, atol=1e-5)
    assert slow.metrics["val_accuracy"] == pytest.approx(quick.metrics["val_accuracy"], abs=1 / 144)
    found = supermask.evaluate(slow)
    assert found.reproduced


@pytest.mark.parametrize("method", [pytest.param("random", marks=pytest.mark.slow), "snip"])
def test_a_mask_that_is_not_trained_has_statistics_of_its_own(method):
    [ticket] = supermask.search(supermask.SearchConfig(arch=NORMED, method=method, init="signed-constant"))
    assert abs(ticket.state["norm/var"] - 1).min() > 0.01
    assert supermask.evaluate(ticket).reproduced


@pytest.mark.slow
def test_a_control_is_scored_with_statistics_of_its_own():
    [ticket] = supermask.search(supermask.SearchConfig(arch=NORMED, epochs=2))
    wrong = {name: np.full_like(array, 3) for name, array in ticket.state.items()}
    for kind in ("shuffled", "redrawn"):
        both = (ticket, dataclasses.replace(ticket, state=wrong))
        first, second = (supermask.evaluate(one, control=kind) for one in both)
        assert first.accuracy == pytest.approx(second.accuracy, abs=1 / 360)
        assert first.loss == pytest.approx(second.loss, rel=1e-4)
        assert first.reproduced


@pytest.mark.slow
def test_the_statistics_of_a_sampled_mask_are_means_over_a_new_draw_for_each_batch():
    config = supermask.SearchConfig(arch=NORMED, method="bernoulli", options={"rescale": False}, epochs=2)
    [ticket] = supermask.search(config)
    assert supermask.evaluate(ticket).reproduced
    problem = problem_of(config)
    weights, chance = problem.weights(0)["dense/kernel"], ticket.mask["dense/kernel"] / 255
    batches = batches_of(problem, 0)
    image = batches.mean((0, 1)).ravel()
    error = np.sqrt(image**2 @ (weights**2 * chance * (1 - chance)) / len(batches))  # of a mean over so many draws
    in_errors = (ticket.state["norm/mean"] - image @ (weights * chance)) / error
    assert 0.6 < np.sqrt((in_errors**2).mean()) < 1.6  # one draw for all: about 3; the expected mask: 0


@pytest.mark.slow
def test_a_search_that_is_stopped_goes_on_to_the_same_bytes(monkeypatch):
    for module in ("trainer", "evaluator"):
        monkeypatch.setattr(f"supermask.engine.{module}.SECONDS_PER_CALL", 0)
    problem = problem_of(arch=NORMED, epochs=2, select="best")
    whole = tickets_of(problem)
    # An epoch has 10 steps; then come 13 calls of the estimate, 5 of the validation images, and the next epoch.
    for calls, step in ((15, 10), (33, 15)):
        asked, saved = [], []
        tickets_of(problem, watch(stop=lambda: asked.append(0) or len(asked) > calls, save=saved.append))  # noqa: B023
        assert (saved[-1].step, saved[-1].epochs_done) == (step, int(step > 10))
        assert tickets_of(problem, resume=saved[-1]) == whole


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_the_second_of_two_seeds_has_the_statistics_that_it_has_alone():
    config = supermask.SearchConfig(arch=NORMED, epochs=1, seed=4, seeds=2)
    _, second = supermask.search(config)
    [alone] = supermask.search(config.replace(seed=5, seeds=1))
    assert alone.to_bytes() == second.to_bytes()


@pytest.mark.slow
def test_two_devices_find_the_statistics_of_one():
    found = []
    for devices in (1, 2):
        problem = problem_of(arch=CONVOLVED, devices=devices, augment="crop-flip")
        weights = problem.weights(0)
        mask = {name: np.ones(array.shape, bool) for name, array in weights.items() if array.ndim > 1}
        sharding = problem.sharding
        state = problem.initial(0)[1]
        placed = (sharding.stack_seeds([tree]) for tree in (mask, state, weights))
        estimated = BatchStatistics(problem, mask_search(problem.method), sharding)(*placed, [0])
        found.append(jax.device_get(estimated))
    assert sharding.num_shards == 2
    for name, array in found[0].items():
        np.testing.assert_allclose(array, found[1][name], rtol=1e-4, atol=1e-5)


def test_a_network_without_state_is_not_estimated():
    trainer, state, _ = fitted(supermask.SearchConfig(arch="lenet300", width=0.1, epochs=1))
    assert state.last[0].model_state == {}
    assert trainer.steps.batch_statistics.program.seconds == 0
