"""What the published code does where it differs from the text, or from our default: each against NumPy."""

from itertools import pairwise
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supermask import SearchConfig, core, masks, registry
from supermask.resolve import resolve
from supermask.types import Clock, InitContext
from supermask.weights.inits import draw, of_config
from supermask.weights.shapes import fans

pytestmark = pytest.mark.usefixtures("compiled_quickly", "strict")

SHAPES = {"conv1/kernel": (3, 3, 2, 4), "dense1/kernel": (20, 10)}
KEY = jax.random.key(3)
RANDOM = np.random.default_rng(5)
UPSTREAM = {key: jnp.asarray(RANDOM.normal(size=shape), jnp.float32) for key, shape in SHAPES.items()}


def begun(name, **options):
    """(method, weights, first scores)"""
    method = registry.load("methods", name)(**options)
    weights = {key: jnp.asarray(w) for key, w in draw(method.recipe.init, 1, SHAPES).items()}
    return method, weights, method.init(KEY, weights, InitContext(None, None))


def slope(method, scores, weights, state=None):
    clock = SimpleNamespace(progress=jnp.float32(0.4))
    state = method.init_state(scores, weights) if state is None else state
    found = jax.vjp(lambda s: core.mask_search(method).weights(s, state, weights, KEY, clock)[0], scores)
    return found[1](UPSTREAM)[0]


def after(method, scores, weights, state, step, steps_per_epoch, total_steps):
    clock = Clock(jnp.int32(step), steps_per_epoch, total_steps)
    return method.after_update(scores, state, scores, weights, key=jax.random.fold_in(KEY, step), clock=clock)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def test_signed_with_an_absolute_threshold():
    method, weights, scores = begun("signed", tau=0.01, threshold=0.4)
    scores = {key: s.at[(0,) * s.ndim].set(0.005) for key, s in scores.items()}
    for key, hard in method.harden(scores, weights).items():
        s = np.asarray(scores[key])
        np.testing.assert_array_equal(hard, np.sign(s) * (np.abs(s) > 0.01))
        assert hard[(0,) * s.ndim] == 0
        assert np.count_nonzero(hard) > 0.9 * hard.size


def test_the_decay_of_signed_falls_in_steps_of_3900():
    method, weights, scores = begun("signed", decay=0.01, decay_schedule="step-staircase")
    for step, cuts in ((0, 0), (3899, 0), (3900, 1), (46_799, 11), (46_800, 12)):
        moved, _ = after(method, scores, weights, {}, step, 468, 100_000)
        for key in SHAPES:
            np.testing.assert_allclose(moved[key], np.asarray(scores[key]) * (1 - 0.01 * 0.96**cuts), rtol=1e-6)


@pytest.mark.parametrize("backward", ["published", "identity"])
def test_the_gradient_of_fedpm(backward):
    method, weights, scores = begun("fedpm", backward=backward)
    found = slope(method, scores, weights)
    for key in SHAPES:
        p = sigmoid(scores[key])
        factor = p * p * (1 - p) if backward == "published" else p * (1 - p)
        np.testing.assert_allclose(found[key], UPSTREAM[key] * weights[key] * factor, rtol=1e-4, atol=1e-7)
    other = begun("fedpm", backward="identity")[0]
    for key, mask in method.mask(scores, weights, key=KEY, progress=jnp.float32(0)).items():
        np.testing.assert_array_equal(mask, other.mask(scores, weights, key=KEY, progress=jnp.float32(0))[key])


def test_a_vote_of_fedpm_counts_as_a_hundredth_or_99():
    method, weights, scores = begun("fedpm", clients=3, local_epochs=1)
    state, votes = method.init_state(scores, weights), {key: np.zeros(shape) for key, shape in SHAPES.items()}
    for step in (1, 3, 5):  # 3 clients of 2 steps
        drawn = masks.bernoulli(jax.random.fold_in(KEY, step), {key: jax.nn.sigmoid(scores[key]) for key in SHAPES})
        votes = {key: votes[key] + np.where(drawn[key], 0.99, 0.01) for key in SHAPES}
        found, state = after(method, scores, weights, state, step, 6, 24)
        assert method.resets_optimizer(Clock(jnp.int32(step), 6, 24)) is False
    for key in SHAPES:
        mode = votes[key] / 3
        np.testing.assert_allclose(found[key], np.log(mode / (1 - mode)), rtol=1e-4, atol=1e-6)


def test_scores_and_weights_of_slot_machines_begin_with_the_bound_of_glorot():
    _, weights, scores = begun("slot-machines", values=50)
    old = begun("slot-machines", values=50, scores="text")[2]
    for key, shape in SHAPES.items():
        bound = np.sqrt(6 / sum(fans(shape)))
        assert 0.98 * bound < np.asarray(scores[key]).max() <= bound
        assert 0 <= np.asarray(scores[key]).min() < 0.02 * bound
        assert 0.9 * bound < np.abs(weights[key]).max() <= bound
        narrow = (1 if len(shape) > 2 else 0.1) * np.sqrt(2 / sum(fans(shape)))
        assert 0.98 * narrow < np.asarray(old[key]).max() <= narrow


def test_probabilistic_slot_machines_draw_by_the_softmax():
    method, _, _ = begun("slot-machines", values=3, select="probabilistic")
    weights = {"k": jnp.ones((300, 200), jnp.float32)}
    scores = {"k": jnp.asarray(np.float32([0.0, 1.0, -2.0])[:, None, None] * np.ones((3, 300, 200), np.float32))}
    mask = np.asarray(method.mask(scores, weights, key=KEY, progress=jnp.float32(0))["k"])
    np.testing.assert_array_equal(mask.sum(0), 1)
    share = np.exp([0.0, 1.0, -2.0]) / np.exp([0.0, 1.0, -2.0]).sum()
    np.testing.assert_allclose(mask.mean((1, 2)), share, atol=5 * 0.5 / np.sqrt(60_000))
    other = method.mask(scores, weights, key=jax.random.key(4), progress=jnp.float32(0))["k"]
    assert not np.array_equal(mask, other)
    _, back = jax.vjp(lambda s: method.mask(s, weights, key=KEY, progress=jnp.float32(0)), scores)
    np.testing.assert_array_equal(back({"k": mask + 2})[0]["k"], mask + 2)  # straight-through
    np.testing.assert_array_equal(method.harden(scores, weights)["k"], 2)


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_temperature_of_an_epoch(rounds):
    epochs, per_epoch = 10, 4
    method, weights, scores = begun(
        "continuous-sparsification", temperature="epoch", rounds=rounds, final_beta=50.0, density=0.3, strength=0.1
    )
    state, starts, betas = method.init_state(scores, weights), [-(-r * epochs // rounds) for r in range(rounds + 1)], []
    step_of = jax.jit(lambda s, state, step: after(method, s, weights, state, step, per_epoch, epochs * per_epoch))
    for step in range(epochs * per_epoch):
        betas.append(float(state["beta"]))
        moved, state = step_of(scores, state, step)
        if (step + 1) % per_epoch == 0 and (step + 1) // per_epoch in starts[1:-1]:
            for key in SHAPES:
                np.testing.assert_allclose(moved[key], np.minimum(50 * scores[key], masks.logit(0.3)), rtol=1e-6)
        else:
            assert all(np.array_equal(moved[key], scores[key]) for key in SHAPES)
    expected = []
    for first, last in pairwise(starts):
        expected += [50.0 ** (e / (last - first - 1)) for e in range(last - first)]
    np.testing.assert_allclose(betas, np.repeat(expected, per_epoch), rtol=1e-5)
    small = {key: jnp.asarray(RANDOM.normal(size=shape) * 0.05, jnp.float32) for key, shape in SHAPES.items()}
    state = {"beta": jnp.float32(7)}
    mask = method.mask(small, weights, key=KEY, progress=jnp.float32(0.9), state=state)
    total = 0
    for key in SHAPES:
        np.testing.assert_allclose(mask[key], sigmoid(7 * np.asarray(small[key])), rtol=1e-5)
        total += sigmoid(7 * np.asarray(small[key])).sum()
    found = method.penalty(small, progress=jnp.float32(0.9), state=state)
    assert float(found) == pytest.approx(0.1 / 0.3 * total, rel=1e-5)


def test_kept_moments_of_continuous_sparsification():
    kept, fresh = (begun("continuous-sparsification", rounds=2, moments=m)[0] for m in ("kept", "fresh"))
    clock = Clock(jnp.int32(19), 4, 40)
    assert kept.resets_optimizer(clock) is False
    assert bool(fresh.resets_optimizer(clock))


def test_gem_miner_freezes_after_the_published_epochs():
    method, weights, scores = begun("gem-miner", density=0.1, delay=1)
    step_of = jax.jit(lambda s, step: after(method, s, weights, {}, step, 2, 46)[0])
    active, events = sum(s.size for s in scores.values()), []
    size = active
    for step in range(46):
        scores = step_of(scores, step)
        left = sum(int((np.asarray(s) >= 0).sum()) for s in scores.values())
        if left != active:
            events.append(((step + 1) / 2, left))
            active = left
    assert [epoch for epoch, _ in events] == [6, 11, 16, 21]
    assert [left for _, left in events] == [pytest.approx(size * 0.1 ** (turn / 4), abs=1) for turn in (1, 2, 3, 4)]


def test_the_moving_average_of_hard_concrete():
    method, weights, scores = begun("hard-concrete", average=0.9)
    state, mean = method.init_state(scores, weights), {key: np.zeros(shape) for key, shape in SHAPES.items()}
    stretched = lambda s: np.clip(sigmoid(s) * 1.2 - 0.1, 0, 1)  # noqa: E731
    for key, gate in method.harden(scores, weights, state=state).items():
        np.testing.assert_allclose(gate, stretched(scores[key]), rtol=1e-5)
    for step in range(5):
        scores = {key: s + 0.3 for key, s in scores.items()}
        scores, state = after(method, scores, weights, state, step, 4, 40)
        mean = {key: 0.9 * mean[key] + 0.1 * np.asarray(scores[key], np.float64) for key in SHAPES}
    for key, gate in method.harden(scores, weights, state=state).items():
        np.testing.assert_allclose(gate, stretched(mean[key] / (1 - 0.9**5)), rtol=1e-5)


def test_weights_scaled_by_the_share_that_is_kept():
    """`scale_fan` as the paper of edge-popup says, not as its code; published for multicoated."""
    config = resolve(SearchConfig(method="multicoated", arch="lenet300", density=0.3, scale_by_density=True))
    for key, w in of_config(config, 0, SHAPES).items():
        np.testing.assert_allclose(np.abs(w), np.sqrt(2 / (fans(SHAPES[key])[0] * 0.3)), rtol=1e-6)


@pytest.mark.parametrize("name", ["snip", "grasp", "synflow", "magnitude"])
def test_what_ranks_weights_by_their_size_draws_weights_of_different_size(name):
    assert resolve(SearchConfig(method=name)).init == "kaiming-normal"


def test_gem_miner_has_a_hundred_epochs_unless_told_otherwise():
    assert resolve(SearchConfig(method="gem-miner", arch="lenet300")).epochs == 100
    assert resolve(SearchConfig(method="gem-miner", arch="lenet300", epochs=3)).epochs == 3
    assert resolve(SearchConfig(method="gem-miner", arch="transformer", dataset="modadd:7")).epochs == 500
    assert resolve(SearchConfig(method="edge-popup", arch="lenet300")).epochs == 20
