"""The step: gradients against NumPy, roles exchanged, micro-batches, what never moves."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from supermask import core, masks, registry
from supermask.data.feed import Pipeline
from supermask.engine.evaluator import Evaluator
from supermask.engine.sharding import Sharding
from supermask.tasks.classification import Classification
from supermask.types import Clock, InitContext, Model, Split

pytestmark = pytest.mark.usefixtures("strict")

SHAPES = {"a": (6, 5), "b": (5, 3)}
KEY = jax.random.key(0)


def apply(weights, state, inputs, *, train, key):
    return jax.nn.relu(inputs.reshape(inputs.shape[0], -1) @ weights["a"]) @ weights["b"], state


MODEL = Model(weights=SHAPES, state={}, apply=apply)


@pytest.fixture
def problem():
    random = np.random.default_rng(0)
    weights = {name: jnp.asarray(random.normal(size=shape), jnp.float32) for name, shape in SHAPES.items()}
    x = jnp.asarray(random.normal(size=(8, 6, 1, 1)), jnp.float32)
    y = jnp.asarray(random.integers(0, 3, 8), jnp.int32)
    return weights, x, y


def numpy_gradient(weights, x, y):
    """dL/dW of the mean cross-entropy of the two-layer net above, by hand."""
    a, b = (np.asarray(weights[name], np.float64) for name in ("a", "b"))
    x = np.asarray(x, np.float64).reshape(len(y), -1)
    hidden = x @ a
    active = np.maximum(hidden, 0)
    logits = active @ b
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    delta = (p - np.eye(3)[np.asarray(y)]) / len(y)
    loss = -np.log(p[np.arange(len(y)), np.asarray(y)]).sum()
    return {"a": x.T @ ((delta @ b.T) * (hidden > 0)), "b": active.T @ delta}, loss


def one_step(rule, trained, frozen, x, y, rate=1.0, batching=(), model=MODEL, key=KEY):
    optimizer = optax.sgd(rate)
    state = core.TrainState(trained, optimizer.init(trained), {}, {})
    step = core.Step(rule, model, Classification(), optimizer, batching=batching)
    return step(state, frozen, (x, y), key=key, clock=Clock(jnp.int32(0), 1, 1))


def test_search_step_moves_scores_by_g_w_sign_and_nothing_else(problem):
    weights, x, y = problem
    method = registry.load("methods", "edge-popup")(density=0.5)
    scores = method.init(KEY, weights, InitContext(None, None))
    mask = masks.realise(method.harden(scores, weights), KEY)
    state, (loss, _, count) = one_step(core.mask_search(method), scores, weights, x, y)
    slope, expected_loss = numpy_gradient({name: weights[name] * mask[name] for name in SHAPES}, x, y)
    assert float(loss) == pytest.approx(expected_loss, rel=1e-5)
    assert int(count) == len(y)
    for name in SHAPES:
        expected = np.asarray(scores[name]) - slope[name] * weights[name] * np.sign(scores[name])
        np.testing.assert_allclose(state.trainable[name], expected, rtol=1e-4, atol=1e-6)
    assert state.trainable.keys() == scores.keys()


def test_roles_exchanged_the_same_step_trains_weights_under_a_mask(problem):
    weights, x, y = problem
    mask = {"a": jnp.asarray(np.random.default_rng(1).random((6, 5)) < 0.5, jnp.float32)}
    state, _ = one_step(core.weight_training, weights, mask, x, y)
    slope, _ = numpy_gradient(weights | {"a": weights["a"] * mask["a"]}, x, y)
    np.testing.assert_allclose(state.trainable["a"], weights["a"] - slope["a"] * mask["a"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state.trainable["b"], weights["b"] - slope["b"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pieces", [2, 4, 8])
def test_micro_batches_change_nothing_but_rounding(problem, pieces):
    weights, x, y = problem
    method = registry.load("methods", "edge-popup")()
    scores = method.init(KEY, weights, InitContext(None, None))
    whole, (loss, correct, _) = one_step(core.mask_search(method), scores, weights, x, y)
    split, (split_loss, split_correct, _) = one_step(
        core.mask_search(method), scores, weights, x, y, batching=(pieces,)
    )
    assert float(loss) == pytest.approx(float(split_loss), rel=1e-5)
    assert int(correct) == int(split_correct)
    for name in SHAPES:
        np.testing.assert_allclose(whole.trainable[name], split.trainable[name], rtol=1e-5, atol=1e-6)


def test_penalty_enters_the_gradient(problem):
    weights, x, y = problem
    base = registry.load("methods", "edge-popup")

    class Penalised(base):
        def penalty(self, scores, *, progress):
            return 3.0 * sum(jnp.sum(s) for s in scores.values())

    scores = base().init(KEY, weights, InitContext(None, None))
    plain, _ = one_step(core.mask_search(base()), scores, weights, x, y)
    pushed, _ = one_step(core.mask_search(Penalised()), scores, weights, x, y)
    np.testing.assert_allclose(pushed.trainable["a"], plain.trainable["a"] - 3.0, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 10])
def test_score_counts_every_image_once(problem, batch_size, devices):
    weights, _x, _y = problem
    images = np.random.default_rng(2).integers(0, 256, (10, 6, 1, 1)).astype(np.uint8)
    labels = np.random.default_rng(3).integers(0, 3, 10).astype(np.int32)
    method = registry.load("methods", "edge-popup")()
    mask = method.harden(method.init(KEY, weights, InitContext(None, None)), weights)
    prepare = lambda images: images.astype(jnp.float32) / 255  # noqa: E731
    sharding = Sharding(devices)
    pipeline = Pipeline(batch_size, 1, order=None, augment=None, normalise=prepare)
    problem = SimpleNamespace(model=MODEL, task=Classification(), pipeline=pipeline, streaming=None)
    split = Split(images, labels)
    evaluator = Evaluator(problem, core.mask_search(method), split, sharding, batch_size=batch_size)
    program = jax.jit(sharding.program(evaluator._sums))
    own = sharding.stack_seeds([(mask, {}, weights, KEY)])

    def sums(start, stop):
        found = program(own, (images, labels, jnp.int32(start), jnp.int32(stop)))
        return [np.asarray(value)[0] for value in found]

    rounds = -(-10 // (batch_size * devices))
    assert evaluator.rounds == rounds
    losses, rights, counts = sums(0, rounds)
    assert counts.sum() == len(labels)
    pieces = [sums(i, i + 1) for i in range(rounds)]
    np.testing.assert_array_equal(losses, np.sum([piece[0] for piece in pieces], 0))  # however it is cut, bit for bit
    np.testing.assert_array_equal(rights, np.sum([piece[1] for piece in pieces], 0))
    loss, correct = losses.sum(), rights.sum()
    product = {name: weights[name] * masks.realise(mask, KEY)[name] for name in SHAPES}
    logits = apply(product, {}, prepare(images), train=False, key=None)[0]
    assert int(correct) == int((np.argmax(logits, -1) == labels).sum())
    expected = numpy_gradient(product, prepare(images), labels)[1]
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_realise_casts_all_masks_but_sampled_ones():
    signed = {"k": jnp.asarray([-1, 0, 1], jnp.int8)}
    np.testing.assert_array_equal(masks.realise(signed, KEY)["k"], np.array([-1.0, 0.0, 1.0], np.float32))
    sampled = {"k": jnp.full((1000,), 128, jnp.uint8)}
    drawn = np.asarray(masks.realise(sampled, KEY)["k"])
    assert set(np.unique(drawn)) == {0.0, 1.0}
    assert 0.4 < drawn.mean() < 0.6


def noisy(weights, state, inputs, *, train, key):
    """Drops half of the inputs in training, as dropout does."""
    x = inputs.reshape(inputs.shape[0], -1)
    kept = jax.random.bernoulli(key, 0.5, x.shape) if train else jnp.ones(x.shape, bool)
    return jax.nn.relu(jnp.where(kept, x, jnp.float32(0)) @ weights["a"]) @ weights["b"], state


def test_noise_of_the_network_comes_from_the_key_of_the_step(problem):
    weights, x, y = problem
    model = Model(weights=SHAPES, state={}, apply=noisy)
    one, again, other = (
        one_step(core.weight_training, weights, {}, x, y, model=model, key=jax.random.key(seed))[0].trainable["a"]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_each_piece_of_a_batch_has_noise_of_its_own(problem):
    weights, x, y = problem
    twice, labels = jnp.concatenate([x, x]), jnp.concatenate([y, y])
    model = Model(weights=SHAPES, state={}, apply=noisy)
    (_, (loss, _, _)) = one_step(core.weight_training, weights, {}, twice, labels, model=model, batching=(2,))
    key = jax.random.fold_in(KEY, 2)
    pieces = []
    for number in range(2):
        logits = noisy(weights, {}, x, train=True, key=jax.random.fold_in(key, number))[0]
        pieces.append(float(optax.softmax_cross_entropy_with_integer_labels(logits, y).sum()))
    assert pieces[0] != pieces[1]
    assert float(loss) == pytest.approx(sum(pieces), rel=1e-5)
