"""One contract for every file in tasks/; the loss of each against NumPy or finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supermask import registry
from supermask.errors import UsageError
from supermask.tasks._training import in_training

pytestmark = pytest.mark.usefixtures("compiled_quickly")

CLASSES = 5
every = pytest.mark.parametrize("name", registry.names("tasks"))


def task_of(name):
    return registry.load("tasks", name)()


def example(task, count=12, seed=0):
    """(outputs, targets) for inputs of 8x8 images."""
    random = np.random.default_rng(seed)
    outputs = jnp.asarray(random.normal(size=task.output_shape((count, 8, 8, 1), CLASSES)), jnp.float32)
    return outputs, jnp.asarray(random.integers(0, CLASSES, outputs.shape[:-1]), jnp.int32)


@every
def test_sums_are_of_all_predictions(name):
    task = task_of(name)
    outputs, targets = example(task)
    sums = task.loss(outputs, targets)
    assert (sums.loss.dtype, sums.correct.dtype, sums.count.dtype) == (jnp.float32, jnp.int32, jnp.int32)
    assert sums.loss.shape == sums.correct.shape == sums.count.shape == ()
    assert int(sums.count) == targets.size
    assert 0 <= int(sums.correct) <= int(sums.count)
    parts = [task.loss(outputs[part], targets[part]) for part in (slice(0, 5), slice(5, None))]
    assert float(sums.loss) == pytest.approx(sum(float(part.loss) for part in parts), rel=1e-5)
    assert int(sums.correct) == sum(int(part.correct) for part in parts)


@every
def test_a_target_below_zero_counts_for_nothing(name):
    task = task_of(name)
    outputs, targets = example(task)
    ignored = targets.at[3:].set(-1)
    found, alone = task.loss(outputs, ignored), task.loss(outputs[:3], targets[:3])
    assert float(found.loss) == pytest.approx(float(alone.loss), rel=1e-6)
    assert (int(found.correct), int(found.count)) == (int(alone.correct), int(alone.count))
    slope = jax.grad(lambda outputs: task.loss(outputs, ignored).loss)(outputs)
    assert not np.any(slope[3:])
    assert np.any(slope[:3])


@every
def test_the_gradient_is_that_of_finite_differences(name):
    task = task_of(name)
    outputs, targets = example(task, count=3)
    slope = jax.grad(lambda outputs: task.loss(outputs, targets).loss)(outputs)
    for index in np.ndindex(*outputs.shape):
        moved = [float(task.loss(outputs.at[index].add(step), targets).loss) for step in (1e-2, -1e-2)]
        assert float(slope[index]) == pytest.approx((moved[0] - moved[1]) / 2e-2, abs=2e-3)


def test_classification_is_cross_entropy():
    task = task_of("classification")
    outputs, targets = example(task)
    logits = np.asarray(outputs, np.float64)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    sums = task.loss(outputs, targets)
    assert float(sums.loss) == pytest.approx(-np.log(p[np.arange(len(targets)), np.asarray(targets)]).sum(), rel=1e-5)
    assert int(sums.correct) == int((logits.argmax(-1) == np.asarray(targets)).sum())


@pytest.mark.parametrize("name", ["classification", "next-token"])
def test_smoothing_spreads_a_share_of_each_target_over_all_classes(name):
    plain, smooth = task_of(name), in_training(task_of(name), 0.1)
    outputs, targets = example(plain)
    logits = np.asarray(outputs, np.float64)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    shares = 0.9 * np.eye(CLASSES)[np.asarray(targets)] + 0.1 / CLASSES
    found, without = smooth.loss(outputs, targets), plain.loss(outputs, targets)
    assert float(found.loss) == pytest.approx(-(shares * logs).sum(), rel=1e-5)
    assert (int(found.correct), int(found.count)) == (int(without.correct), int(without.count))
    ignored, alone = smooth.loss(outputs, targets.at[3:].set(-1)), smooth.loss(outputs[:3], targets[:3])
    assert float(ignored.loss) == pytest.approx(float(alone.loss), rel=1e-6)


def test_a_task_without_smoothing_says_so():
    class Bare:
        pass

    assert in_training(Bare(), None).__class__ is Bare
    with pytest.raises(UsageError, match="the task Bare smooths no labels: leave out --label-smoothing"):
        in_training(Bare(), 0.1)


def test_next_token_is_classification_at_every_token():
    task, every = task_of("next-token"), task_of("classification")
    random = np.random.default_rng(1)
    outputs = jnp.asarray(random.normal(size=task.output_shape((4, 6), CLASSES)), jnp.float32)
    assert outputs.shape == (4, 6, CLASSES)
    targets = jnp.asarray(random.integers(-1, CLASSES, (4, 6)), jnp.int32)
    found, flat = task.loss(outputs, targets), every.loss(outputs.reshape(-1, CLASSES), targets.reshape(-1))
    assert float(found.loss) == pytest.approx(float(flat.loss), rel=1e-6)
    assert (int(found.correct), int(found.count)) == (int(flat.correct), int((targets >= 0).sum()))


def test_one_target_for_a_sequence_follows_its_last_token():
    task, every = task_of("next-token"), task_of("classification")
    random = np.random.default_rng(2)
    outputs = jnp.asarray(random.normal(size=(4, 6, CLASSES)), jnp.float32)
    targets = jnp.asarray([0, 1, -1, 2], jnp.int32)
    assert task.loss(outputs, targets) == every.loss(outputs[:, -1], targets)
