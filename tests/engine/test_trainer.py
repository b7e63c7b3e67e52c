"""The trainer by itself: fit, go on, evaluate, for both parametrizations."""

import jax
import numpy as np
import pytest
from helpers import problem_of, watch

import supermask
from supermask.core import mask_search, weight_training
from supermask.engine.saliency import first_scores
from supermask.engine.trainer import Trainer

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SMALL = {"arch": "lenet300", "width": 0.1, "epochs": 4}


def begun(kind):
    """(trainer, state, frozen) of seed 7."""
    if kind == "search":
        problem = problem_of(**SMALL)
        trainer = Trainer(problem, mask_search(problem.method), problem.side_by_side(1))
        weights = problem.weights(7)
        frozen, start = weights, first_scores(problem)(7, weights)
    else:
        problem = problem_of(supermask.TrainConfig(**SMALL))
        trainer = Trainer(problem, weight_training, problem.side_by_side(1))
        frozen, start = {}, (problem.weights(7), {})
    return trainer, trainer.init([7], [start]), trainer.place([frozen])


def trained(state):
    return jax.device_get(state.train.trainable)


@pytest.mark.parametrize("kind", ["search", "train"])
def test_fit_goes_on_from_where_the_state_is(kind):
    trainer, state, frozen = begun(kind)
    whole = trained(trainer.fit(state, frozen, until=4))
    trainer, state, frozen = begun(kind)
    for until in (1, 3, 4, 4):
        state = trainer.fit(state, frozen, until=until)
        assert state.epochs_done == until
        assert state.step == until * trainer.problem.pipeline.steps_per_epoch
    for name, array in whole.items():
        np.testing.assert_array_equal(array, trained(state)[name])


@pytest.mark.parametrize("kind", ["search", "train"])
def test_a_second_state_compiles_nothing(kind):
    compiled = []
    trainer, state, frozen = begun(kind)
    trainer.fit(state, frozen, until=1)
    again = trainer.init([7], [begin(trainer, kind)])
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **more: compiled.append(name) if "backend_compile" in name else None
    )
    try:
        trainer.fit(again, frozen, until=2)
    finally:
        jax.monitoring.clear_event_listeners()
    assert compiled == []


def begin(trainer, kind):
    weights = trainer.problem.weights(7)
    return first_scores(trainer.problem)(7, weights) if kind == "search" else (weights, {})


@pytest.mark.parametrize("kind", ["search", "train"])
def test_evaluate_counts_every_example_once_and_agrees_with_the_candidates(kind):
    trainer, state, frozen = begun(kind)
    state = trainer.fit(state, frozen, until=2)
    dataset = trainer.problem.dataset
    for split in (dataset.train, dataset.validation, dataset.test):
        sums = trainer.evaluate(state, frozen, split)
        assert sums.count.tolist() == [[len(split)]]
    sums = trainer.evaluate(state, frozen, dataset.validation)
    assert (sums.correct / sums.count)[0, 0] == state.last[0].metrics["val_accuracy"]


def test_what_is_frozen_never_moves():
    trainer, state, frozen = begun("search")
    before = jax.device_get(frozen)
    trainer.fit(state, frozen, until=2)
    for name, array in trainer.problem.weights(7).items():
        np.testing.assert_array_equal(before[name][0], array)
        np.testing.assert_array_equal(jax.device_get(frozen)[name][0], array)


@pytest.mark.parametrize("kind", ["search", "train"])
def test_smoothed_labels_are_trained_by(kind):
    """Nine tenths of each target spread over ten classes: no loss is below the entropy of 0.19 and nine times 0.09."""
    config = supermask.SearchConfig(**SMALL) if kind == "search" else supermask.TrainConfig(**SMALL)
    [plain], [smooth] = (getattr(supermask, kind)(config.replace(label_smoothing=share)) for share in (None, 0.9))
    entropy = -(0.19 * np.log(0.19) + 9 * 0.09 * np.log(0.09))
    assert plain.metrics["loss"] < entropy < smooth.metrics["loss"]
    assert smooth.config.label_smoothing == 0.9
    assert "label_smoothing" not in plain.config.to_dict()


def test_a_callback_that_stops_leaves_the_state_between_two_steps():
    trainer, state, frozen = begun("train")
    taken, done = [], []
    told = watch(steps=lambda seeds, step, *more: done.append(step), stop=lambda: len(done) >= 3, save=taken.append)
    state = trainer.fit(state, frozen, until=4, callbacks=[told])
    assert state.interrupted
    assert state.step == done[-1] == taken[0].step
    whole_trainer, whole, same = begun("train")
    state = trainer.fit(state, frozen, until=4)
    whole = whole_trainer.fit(whole, same, until=4)
    for name, array in trained(whole).items():
        np.testing.assert_array_equal(array, trained(state)[name])
