"""The formulas of the methods that carry state, transform weights or look at the network, each against NumPy."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supermask import core, masks, registry
from supermask.errors import UsageError
from supermask.types import Clock, InitContext
from supermask.weights.inits import draw
from supermask.weights.shapes import fans

pytestmark = pytest.mark.usefixtures("compiled_quickly", "strict")

SHAPES = {"conv1/kernel": (3, 3, 2, 4), "dense1/kernel": (20, 10)}
KEY = jax.random.key(3)
RANDOM = np.random.default_rng(5)
UPSTREAM = {key: jnp.asarray(RANDOM.normal(size=shape), jnp.float32) for key, shape in SHAPES.items()}


def make(name, **options):
    return registry.load("methods", name)(**options)


def begun(method, init=None):
    weights = {key: jnp.asarray(w) for key, w in draw(init or method.recipe.init, 1, SHAPES).items()}
    return weights, method.init(KEY, weights, InitContext(None, None))


def product(method, scores, weights, progress=0.4, state=None):
    """Effective weights as a step makes them."""
    clock = SimpleNamespace(progress=jnp.float32(progress))
    state = method.init_state(scores, weights) if state is None else state
    return core.mask_search(method).weights(scores, state, weights, KEY, clock)[0]


def score_gradient(method, scores, weights, progress=0.4, state=None):
    state = method.init_state(scores, weights) if state is None else state
    return jax.vjp(lambda s: product(method, s, weights, progress, state), scores)[1](UPSTREAM)[0]


def updated(method, scores, weights, before=None, state=None, **clock):
    """(scores, state) after the optimiser's update."""
    key = jax.random.fold_in(KEY, clock["step"])
    state = method.init_state(scores, weights) if state is None else state
    moved, after = method.after_update(scores, state, before or scores, weights, key=key, clock=Clock(**clock))
    described = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype), tree)  # noqa: E731
    assert described((moved, after)) == described((scores, state))
    return moved, after


def moved_scores(*args, **more):
    return updated(*args, **more)[0]


def clock_of(step, steps_per_epoch=10, total_steps=100):
    return {"step": jnp.int32(step), "steps_per_epoch": steps_per_epoch, "total_steps": total_steps}


# --- biprop ---------------------------------------------------------------------------------------------------------


def test_biprop_is_gain_times_sign_with_the_gradient_of_edge_popup():
    method = make("biprop", density=0.3)
    weights, scores = begun(method)
    kept = method.harden(scores, weights)
    found, gradient = product(method, scores, weights), score_gradient(method, scores, weights)
    for key in SHAPES:
        w, m = np.asarray(weights[key], np.float64), np.asarray(kept[key])
        gain = np.abs(w[m]).mean()
        np.testing.assert_allclose(found[key], gain * m * np.sign(w), rtol=1e-5)
        expected = np.asarray(UPSTREAM[key]) * w * np.sign(scores[key])
        np.testing.assert_allclose(gradient[key], expected, rtol=1e-5)
        hardened = method.effective(weights, {k: m.astype(jnp.float32) for k, m in kept.items()})
        np.testing.assert_allclose(hardened[key], found[key], rtol=1e-6)


@pytest.mark.parametrize(("name", "options"), [("edge-popup", {}), ("biprop", {"allocation": "uniform"})])
def test_a_step_begins_at_the_cuts_of_the_last_one_and_keeps_the_same_weights(name, options):
    method = make(name, density=0.3, **options)
    weights, scores = begun(method)
    state = method.init_state(scores, weights)
    assert set(state) == {"cuts"}
    for step in range(3):
        mask = method.mask(scores, weights, key=KEY, progress=jnp.float32(0), state=state)
        jax.tree.map(
            np.testing.assert_array_equal, mask, method.mask(scores, weights, key=KEY, progress=jnp.float32(0))
        )
        alone = method.harden(scores, weights)
        jax.tree.map(np.testing.assert_array_equal, method.harden(scores, weights, state=state), alone)
        moved = {key: s + 0.1 * jax.random.normal(jax.random.key(step), s.shape) for key, s in scores.items()}
        scores, state = method.after_update(moved, state, scores, weights, key=KEY, clock=Clock(**clock_of(step)))


@pytest.mark.parametrize(
    "options",
    [{"allocation": "er"}, {"allocation": "erk"}, {"allocation": "smart-ratio"}, {"layer_density": "fc=1.0"}],
)
def test_each_layer_has_its_own_cut_where_counts_are_arguments_of_a_compiled_step(options):
    """The layers of an allocation, of a compiled step's arguments and of a network each have an order of their own."""
    shapes = {"fc": (8, 6), "conv2": (3, 3, 4, 6), "conv10": (3, 3, 6, 8), "conv1": (3, 3, 2, 4)}
    method = make("edge-popup", density=0.3, **options)
    weights = {name: jnp.asarray(w) for name, w in draw("kaiming-normal", 1, shapes).items()}
    scores = method.init(KEY, weights, InitContext(None, None))
    state = method.init_state(scores, weights)
    numbers, given = method.numbers(shapes)

    @jax.jit
    def step(numbers, scores, state):
        chosen = given(numbers)
        mask = chosen.mask(scores, weights, key=KEY, progress=jnp.float32(0), state=state)
        moved = {name: s * (1 + 0.1 * jnp.sin(1000 * s)) for name, s in scores.items()}
        return mask, *chosen.after_update(moved, state, scores, weights, key=KEY, clock=Clock(**clock_of(0)))

    for _ in range(2):
        alone = method.harden(scores, weights)
        assert set(alone) == set(shapes)
        mask, scores, state = step(jax.tree.map(jnp.int32, numbers), scores, state)
        jax.tree.map(lambda m, kept: np.testing.assert_array_equal(m != 0, kept), mask, alone)


def test_a_subclass_that_changes_what_is_selected_selects_anew():
    """Whatever it changes: its state holds no cuts, which would be those of other scores."""

    def moved(self, scores, state, before, weights, *, key, clock):
        return {name: jnp.clip(s, -0.1, 0.1) for name, s in scores.items()}, state

    changes = {
        "ranked": lambda self, scores: {name: s**4 for name, s in scores.items()},
        "ahead": lambda self, progress: 1 - progress,
        "select": lambda self, values, ahead=None, which=0: {name: v > 0.1 for name, v in values.items()},
        "after_update": moved,
    }
    base = registry.load("methods", "edge-popup")
    for name, change in changes.items():
        method = type("Own", (base,), {name: change})(density=0.3)
        weights, scores = begun(method)
        assert method.init_state(scores, weights) == {}, name
        scores, state = method.after_update(scores, {}, scores, weights, key=KEY, clock=Clock(**clock_of(0)))
        mask = method.mask(scores, weights, key=KEY, progress=jnp.float32(0.5), state=state)
        chosen = method.select(method.ranked(scores), method.ahead(jnp.float32(0.5)))
        jax.tree.map(lambda m, kept: np.testing.assert_array_equal(m != 0, kept), mask, chosen)


@pytest.mark.parametrize(
    "options", [{"allocation": "global"}, {"rank": "value"}, {"anneal": 0.5}, {"min_per_unit": 1}, {"pattern": "2:4"}]
)
def test_cuts_are_carried_on_only_where_each_layer_has_one_and_its_count_stays(options):
    method = make("edge-popup", density=0.5, **options)
    weights, scores = begun(method)
    assert method.init_state(scores, weights) == {}


def test_annealed_density_falls_from_a_half_by_the_third_power():
    method = make("biprop", density=0.1, anneal=0.5, allocation="global")
    weights, scores = begun(method)
    size = sum(w.size for w in weights.values())
    for progress in (0.0, 0.1, 0.3, 0.5, 1.0):
        mask = method.mask(scores, weights, key=KEY, progress=jnp.float32(progress))
        share = 0.1 + 0.4 * max(0.0, 1 - progress / 0.5) ** 3
        assert sum(float(m.sum()) for m in mask.values()) == pytest.approx(share * size, abs=1)


# --- iterand --------------------------------------------------------------------------------------------------------


def test_iterand_draws_removed_weights_again_and_the_ticket_knows_which():
    method = make("iterand", density=0.4, period=5, rate=0.5)
    weights, scores = begun(method, "kaiming-uniform")
    kept = {key: np.asarray(m) > 0 for key, m in method.harden(scores, weights).items()}
    for step in (0, 3, 5, 98):
        _, state = updated(method, scores, weights, **clock_of(step))
        assert all(not np.any(state[key]) for key in SHAPES)
    for step in (4, 9, 14):
        same, state = updated(method, scores, weights, state=state, **clock_of(step))
        assert same is scores
    for key in SHAPES:
        generation = np.asarray(state[key])
        assert (generation[kept[key]] == 0).all()
        assert generation[~kept[key]].mean() == pytest.approx(1.5, abs=0.4)  # three events at 1/2
        assert generation.max() == 3
    # A weight that was drawn again and now is kept has its new value, in training and in the ticket.
    turned = {key: -scores[key] for key in SHAPES}
    in_training, hard = product(method, turned, weights, state=state), method.harden(turned, weights, state=state)
    ticket = method.effective(weights, {key: m.astype(jnp.float32) for key, m in hard.items()})
    for key in SHAPES:
        assert hard[key].dtype == jnp.int8
        now_kept = np.asarray(hard[key]) > 0
        np.testing.assert_array_equal(in_training[key], ticket[key])
        assert (np.asarray(ticket[key])[~now_kept] == 0).all()
        fresh = now_kept & (np.asarray(hard[key]) > 1)
        assert fresh.any()
        value = np.asarray(masks.redrawn(weights[key], jnp.maximum(hard[key].astype(jnp.float32) - 1, 0)))
        np.testing.assert_array_equal(np.asarray(ticket[key])[now_kept], value[now_kept])
        assert (value[fresh] != np.asarray(weights[key])[fresh]).mean() > 0.9


def test_iterand_draws_nothing_again_that_annealing_still_keeps():
    method = make("iterand", density=0.1, anneal=1.0, period=1, rate=1.0)
    weights, scores = begun(method, "kaiming-uniform")
    _, state = updated(method, scores, weights, **clock_of(0))
    mask = method.mask(scores, weights, key=KEY, progress=jnp.float32(0))
    for key in SHAPES:
        np.testing.assert_array_equal(np.asarray(state[key]) == 0, np.asarray(mask[key]) == 1)


def test_iterand_gradient_is_g_times_the_weight_as_it_is_now():
    method = make("iterand", density=0.4, period=1, rate=1.0)
    weights, scores = begun(method, "kaiming-uniform")
    scores, state = updated(method, scores, weights, **clock_of(0))
    gradient = score_gradient(method, scores, weights, state=state)
    for key in SHAPES:
        now = masks.redrawn(weights[key], state[key])
        np.testing.assert_allclose(gradient[key], UPSTREAM[key] * now, rtol=1e-6)


# --- gem-miner ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "epochs", [1, 3, 10, pytest.param(2, marks=pytest.mark.slow), pytest.param(23, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("density", [0.02, 0.3])
def test_gem_miner_freezes_down_to_the_density_geometrically(epochs, density):
    method, per_epoch = make("gem-miner", density=density, period=5), 4
    weights, scores = begun(method)
    size = sum(w.size for w in weights.values())
    period = max(1, min(5, epochs // 2))
    freezes = max(1, (epochs - 1) // period)
    active_before = size
    for step in range(epochs * per_epoch):
        moved = {key: s - 0.01 for key, s in scores.items()}
        scores = moved_scores(method, moved, weights, scores, **clock_of(step, per_epoch, epochs * per_epoch))
        active = sum(int((np.asarray(s) >= 0).sum()) for s in scores.values())
        assert active <= active_before
        turn = min((step + 1) // per_epoch // period, freezes)
        assert active == pytest.approx(density ** (turn / freezes) * size, abs=1)
        active_before = active
    assert active == max(1, round(density * size))
    hard = method.harden(scores, weights)
    for key in SHAPES:
        np.testing.assert_array_equal(hard[key], np.asarray(scores[key]) >= 0)


def test_gem_miner_rounds_clips_and_penalises():
    method = make("gem-miner", strength=0.5)
    weights, _ = begun(method)
    scores = {key: jnp.asarray(RANDOM.uniform(-0.2, 1.2, shape), jnp.float32) for key, shape in SHAPES.items()}
    inside = moved_scores(method, scores, weights, {key: jnp.abs(s) for key, s in scores.items()}, **clock_of(0))
    mask = method.mask(inside, weights, key=KEY, progress=jnp.float32(0))
    gradient = score_gradient(method, inside, weights)
    for key in SHAPES:
        np.testing.assert_array_equal(inside[key], np.clip(scores[key], 0, 1))
        np.testing.assert_array_equal(mask[key], np.asarray(inside[key]) > 0.5)
        np.testing.assert_allclose(gradient[key], UPSTREAM[key] * weights[key], rtol=1e-6)
    expected = 0.5 * sum((np.asarray(s, np.float64) ** 2).sum() for s in inside.values())
    assert float(method.penalty(inside, progress=jnp.float32(0))) == pytest.approx(expected, rel=1e-5)
    frozen = moved_scores(method, inside, weights, dict.fromkeys(SHAPES, jnp.float32(-1)), **clock_of(0))
    assert all((np.asarray(s) == -1).all() for s in frozen.values())
    assert float(method.penalty(frozen, progress=jnp.float32(0))) == 0


# --- continuous-sparsification --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 3])
def test_continuous_sparsification(rounds):
    method = make("continuous-sparsification", density=0.3, rounds=rounds, final_beta=50.0, strength=0.1)
    weights, start = begun(method)
    np.testing.assert_allclose(
        product(method, start, weights, 0.0)["dense1/kernel"], weights["dense1/kernel"], rtol=1e-5
    )
    scores = {key: jnp.asarray(RANDOM.normal(size=shape) * 0.05, jnp.float32) for key, shape in SHAPES.items()}
    for progress in (0.0, 0.2, 0.5, 0.8, 1.0):
        within = progress * rounds - min(int(progress * rounds), rounds - 1)
        beta = 50.0**within
        mask = method.mask(scores, weights, key=KEY, progress=jnp.float32(progress))
        gradient = score_gradient(method, scores, weights, progress)
        for key in SHAPES:
            sigma = 1 / (1 + np.exp(-beta * np.asarray(scores[key], np.float64)))
            np.testing.assert_allclose(mask[key], sigma, rtol=1e-4)
            slope = np.asarray(UPSTREAM[key]) * weights[key] * beta * sigma * (1 - sigma) / 0.3
            np.testing.assert_allclose(gradient[key], slope, rtol=2e-3, atol=1e-6)
    hard = method.harden(scores, weights)
    for progress, beta in ((0.0, 1.0), (1.0, 50.0)):
        kept = sum((1 / (1 + np.exp(-beta * np.asarray(s, np.float64)))).sum() for s in scores.values())
        found = method.penalty(scores, progress=jnp.float32(progress))
        assert float(found) == pytest.approx(0.1 / 0.3 * kept, rel=1e-4)
    effective = method.effective(weights, {key: m.astype(jnp.float32) for key, m in hard.items()})
    for key in SHAPES:
        np.testing.assert_allclose(effective[key], np.where(scores[key] > 0, weights[key] / 0.3, 0), rtol=1e-5)
    events = [step for step in range(99) if bool(jnp.asarray(method.resets_optimizer(Clock(**clock_of(step, 9, 99)))))]
    assert events == ([] if rounds == 1 else [32, 65])
    moved = moved_scores(method, scores, weights, **clock_of(32, 9, 99))
    for key in SHAPES:
        reset = np.minimum(50 * np.asarray(scores[key]), masks.logit(0.3))
        np.testing.assert_allclose(moved[key], scores[key] if rounds == 1 else reset, rtol=1e-6)


# --- hard-concrete --------------------------------------------------------------------------------------------------


def test_hard_concrete_gates_open_as_often_as_the_penalty_says():
    method = make("hard-concrete", strength=2.0)
    weights = {"k": jnp.ones((400, 500), jnp.float32)}
    for log_alpha in (-2.0, 0.0, 1.5):
        scores = {"k": jnp.full((400, 500), log_alpha, jnp.float32)}
        gates = np.asarray(method.mask(scores, weights, key=KEY, progress=jnp.float32(0))["k"])
        assert gates.min() >= 0
        assert gates.max() <= 1
        # P(z > 0) = sigmoid(log alpha - beta log(-gamma / zeta)), and by symmetry P(z < 1) with -log alpha
        open_share = 1 / (1 + np.exp(-(log_alpha - 2 / 3 * np.log(0.1 / 1.1))))
        full_share = 1 / (1 + np.exp(log_alpha + 2 / 3 * np.log(0.1 / 1.1)))
        assert (gates > 0).mean() == pytest.approx(open_share, abs=0.005)
        assert (gates < 1).mean() == pytest.approx(full_share, abs=0.005)
        assert float(method.penalty(scores, progress=jnp.float32(0))) == pytest.approx(
            2.0 * 200_000 * open_share, rel=1e-5
        )
        final = np.clip(1.2 / (1 + np.exp(-log_alpha)) - 0.1, 0, 1)
        np.testing.assert_allclose(method.harden(scores, weights)["k"], final, rtol=1e-5)
        np.testing.assert_array_equal(make("hard-concrete", hard="binary").harden(scores, weights)["k"], final >= 0.5)
    clamped = moved_scores(method, {"k": jnp.asarray([[-9.0, 0.5, 9.0]])}, weights, **clock_of(0))["k"]
    np.testing.assert_allclose(clamped, [[-np.log(100), 0.5, np.log(100)]], rtol=1e-6)


def test_hard_concrete_gradient_is_that_of_the_reparametrisation():
    method = make("hard-concrete")
    weights, scores = begun(method)
    gradient = score_gradient(method, scores, weights)
    mask = method.mask(scores, weights, key=KEY, progress=jnp.float32(0.4))
    for key in SHAPES:
        z, g = np.asarray(mask[key], np.float64), np.asarray(UPSTREAM[key]) * weights[key]
        sigma = (z + 0.1) / 1.2
        expected = np.where((z > 0) & (z < 1), g * 1.2 * sigma * (1 - sigma) * 1.5, 0)
        np.testing.assert_allclose(gradient[key], expected, rtol=2e-3, atol=1e-6)


# --- signed ---------------------------------------------------------------------------------------------------------


def test_signed_keeps_hides_and_inverts():
    method = make("signed", threshold=0.4, decay=0.01)
    weights, scores = begun(method)
    gradient, hard = score_gradient(method, scores, weights), method.harden(scores, weights)
    for key, shape in SHAPES.items():
        s = np.asarray(scores[key])
        bound = np.sqrt(6 / sum(fans(shape)))
        assert np.abs(s).max() == pytest.approx(bound, rel=1e-6)
        expected = np.sign(s) * (np.abs(s) > 0.4 * np.abs(s).max())
        np.testing.assert_array_equal(hard[key], expected)
        assert set(np.unique(hard[key])) == {-1, 0, 1}
        np.testing.assert_allclose(gradient[key], UPSTREAM[key] * weights[key], rtol=1e-6)
    before = {key: s + 1 for key, s in scores.items()}
    for step, tenths in ((0, 0), (9, 0), (10, 1), (99, 9)):
        moved = moved_scores(method, scores, weights, before, **clock_of(step))
        for key in SHAPES:
            expected = np.asarray(scores[key]) - 0.01 * 0.9**tenths * np.asarray(before[key])
            np.testing.assert_allclose(moved[key], expected, rtol=1e-5, atol=1e-6)


# --- multicoated ----------------------------------------------------------------------------------------------------


def test_multicoated_adds_up_top_k_masks():
    method = make("multicoated", density=0.4, coats="1,0.5,0.25")
    weights, scores = begun(method)
    hard, gradient = method.harden(scores, weights), score_gradient(method, scores, weights)
    for key in SHAPES:
        size = np.abs(np.asarray(scores[key])).ravel()
        expected = np.zeros(size.size)
        for share in (0.4, 0.2, 0.1):
            expected[np.argsort(-size, kind="stable")[: round(share * size.size)]] += 1
        np.testing.assert_array_equal(np.ravel(hard[key]), expected)
        slope = 3 * np.asarray(UPSTREAM[key]) * weights[key] * np.sign(scores[key])
        np.testing.assert_allclose(gradient[key], slope, rtol=1e-6)


# --- piggyback ------------------------------------------------------------------------------------------------------


def test_piggyback_thresholds():
    scores = {"k": jnp.asarray([[-0.1, 0.0, 0.004, 0.006]], jnp.float32)}
    np.testing.assert_array_equal(make("piggyback").harden(scores, scores)["k"], [[False, False, True, True]])
    published = make("piggyback", threshold=0.005, scores="constant")
    np.testing.assert_array_equal(published.harden(scores, scores)["k"], [[False, False, False, True]])
    ternary = make("piggyback", threshold=0.005, ternary=True)
    np.testing.assert_array_equal(ternary.harden(scores, scores)["k"], [[-1, 0, 0, 1]])
    weights, start = begun(published)
    assert all((np.asarray(s) == np.float32(0.01)).all() for s in start.values())
    gradient = score_gradient(published, start, weights)
    for key in SHAPES:
        np.testing.assert_allclose(gradient[key], UPSTREAM[key] * weights[key], rtol=1e-6)


# --- slot-machines --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [2, 8, 9, 127])
def test_the_first_of_the_highest_scores_is_chosen(values):
    scores = np.random.default_rng(values).integers(0, 5, (values, 7, 11)).astype(np.float32)  # many are equal
    mask = make("slot-machines", values=values).mask({"w": scores}, {}, key=jax.random.key(0), progress=0.0)["w"]
    np.testing.assert_array_equal(mask, np.eye(values)[scores.argmax(0)].transpose(2, 0, 1))


def test_slot_machines_use_the_value_of_the_highest_score():
    method = make("slot-machines", values=4)
    weights, scores = begun(method)
    found, gradient, hard = product(method, scores, weights), score_gradient(method, scores, weights), {}
    for key in SHAPES:
        values = np.stack([masks.redrawn(weights[key], jnp.full(SHAPES[key], float(k))) for k in range(4)])
        np.testing.assert_array_equal(values[0], weights[key])
        choice = np.argmax(scores[key], 0)
        np.testing.assert_array_equal(found[key], np.take_along_axis(values, choice[None], 0)[0])
        np.testing.assert_allclose(gradient[key], np.asarray(UPSTREAM[key]) * values, rtol=1e-6)
        hard = method.harden(scores, weights)
        np.testing.assert_array_equal(hard[key], choice + 1)
    ticket = method.effective(weights, {key: m.astype(jnp.float32) for key, m in hard.items()})
    for key in SHAPES:
        np.testing.assert_array_equal(ticket[key], found[key])


# --- fedpm ----------------------------------------------------------------------------------------------------------


def test_fedpm_server_takes_the_mode_of_what_clients_sent():
    method = make("fedpm", clients=3, local_epochs=2, rounds="fresh")
    weights, scores = begun(method)
    # 3 clients of 2 steps a pass: 6 steps an epoch, 4 steps a client, 12 a round.
    server = {key: np.asarray(scores[key]) for key in SHAPES}
    votes = {key: np.zeros(shape) for key, shape in SHAPES.items()}
    state = method.init_state(scores, weights)
    for step in range(24):
        ends = (step + 1) % 4 == 0
        moved = {key: scores[key] + 0.5 for key in SHAPES}
        settled, state = updated(method, moved, weights, scores, state, **clock_of(step, 6, 24))
        assert bool(method.resets_optimizer(Clock(**clock_of(step, 6, 24)))) == ends
        if not ends:
            assert all(np.array_equal(settled[key], moved[key]) for key in moved)
        else:
            drawn = masks.bernoulli(jax.random.fold_in(KEY, step), {key: jax.nn.sigmoid(moved[key]) for key in SHAPES})
            for key in SHAPES:
                votes[key] += np.asarray(drawn[key])
                if (step + 1) % 12 == 0:
                    mode = np.clip(votes[key] / 3, 0.01, 0.99)
                    server[key], votes[key] = np.log(mode / (1 - mode)), np.zeros(SHAPES[key])
                np.testing.assert_allclose(settled[key], server[key], rtol=1e-5, atol=1e-6)
                np.testing.assert_array_equal(state["votes"][key], votes[key])
            probability = np.asarray(method.harden(settled, weights, state=state)["dense1/kernel"]) / 255
            np.testing.assert_allclose(probability, 1 / (1 + np.exp(-server["dense1/kernel"])), atol=0.003)
        scores = settled


def test_fedpm_clients_see_their_own_images_only_and_all_passes_in_a_row():
    method, count, size = make("fedpm", clients=3, local_epochs=2), 100, 8
    assert method.steps_per_epoch(count, size) == 12
    order = np.concatenate([method.order(KEY, jnp.int32(epoch), count, size) for epoch in (1, 2, 3, 4)])
    assert order.shape == (4 * 12 * size,)
    per_client = order.reshape(2, 3, 2, 4 * size)  # rounds, clients, passes, images
    seen = [set(per_client[:, client].ravel().tolist()) for client in range(3)]
    assert all(len(images) <= 33 for images in seen)
    assert len(seen[0] | seen[1] | seen[2]) == sum(map(len, seen))  # no image is of two clients
    assert max(map(min, seen)) < 33  # dealt from all of them
    assert min(map(max, seen)) > 66
    for one_pass in per_client.reshape(12, -1):
        assert len(set(one_pass.tolist())) == len(one_pass)
    assert not np.array_equal(per_client[0, 0, 0], per_client[0, 0, 1])
    assert not np.array_equal(per_client[0, 0, 0], per_client[1, 0, 0])
    with pytest.raises(UsageError, match="less than a batch"):
        method.steps_per_epoch(20, size)
    assert make("fedpm").order(KEY, jnp.int32(1), count, size) is None


# --- masks that look at the network ---------------------------------------------------------------------------------


A, B = (np.random.default_rng(i).normal(size=(200, 200)) for i in (1, 2))
QUADRATIC = jnp.asarray(A @ A.T / 200, jnp.float32)  # a symmetric Hessian
LINEAR = jnp.asarray(B[0], jnp.float32)


def quadratic(weights, temperature):
    w = weights["dense1/kernel"].reshape(-1)
    return (0.5 * w @ QUADRATIC @ w + LINEAR @ w) / temperature


def two_layers(weights):
    """The summed output of a linear net of two layers for an input of ones."""
    return (jnp.ones((1, 6), jnp.float32) @ weights["a/kernel"] @ weights["b/kernel"]).sum()


CONTEXT = InitContext(loss=quadratic, response=two_layers)


def numpy_top(values, count):
    mask = np.zeros(values.size, bool)
    mask[np.argsort(-values.ravel(), kind="stable")[:count]] = True
    return mask.reshape(values.shape)


@pytest.mark.parametrize("name", ["snip", "grasp"])
def test_snip_and_grasp_rank_by_their_formulas(name):
    weights = {"dense1/kernel": jnp.asarray(np.random.default_rng(0).normal(size=(20, 10)), jnp.float32)}
    w = np.asarray(weights["dense1/kernel"], np.float64).ravel()
    hessian, gradient = np.asarray(QUADRATIC, np.float64), None
    gradient = hessian @ w + np.asarray(LINEAR, np.float64)
    rank = np.abs(w * gradient) if name == "snip" else w * (hessian @ gradient)
    method = make(name, density=0.25)
    mask = method.harden(method.init(KEY, weights, CONTEXT), weights)["dense1/kernel"]
    np.testing.assert_array_equal(np.ravel(mask), numpy_top(rank, 50))


def test_synflow_prunes_in_rounds_and_keeps_a_path():
    random = np.random.default_rng(0)
    shapes = {"a/kernel": (6, 40), "b/kernel": (40, 3)}
    weights = {key: jnp.asarray(random.normal(size=shape), jnp.float32) for key, shape in shapes.items()}
    method = make("synflow", density=0.05, rounds=20)
    a, b = (np.abs(np.asarray(weights[key], np.float64)) for key in shapes)
    keep_a, keep_b = np.ones_like(a, bool), np.ones_like(b, bool)
    for i in range(1, 21):
        ka, kb = a * keep_a, b * keep_b
        flow_a = ka * kb.sum(1)[None, :]
        flow_b = kb * ka.sum(0)[:, None]
        count = max(1, round(0.05 ** (i / 20) * 360))
        chosen = numpy_top(np.concatenate([flow_a.ravel(), flow_b.ravel()]), count)
        keep_a, keep_b = chosen[:240].reshape(a.shape), chosen[240:].reshape(b.shape)
    mask = method.harden(method.init(KEY, weights, CONTEXT), weights)
    np.testing.assert_array_equal(mask["a/kernel"], keep_a)
    np.testing.assert_array_equal(mask["b/kernel"], keep_b)
    assert two_layers({key: jnp.asarray(m, jnp.float32) for key, m in mask.items()}) > 0


# --- bernoulli by rounding ------------------------------------------------------------------------------------------


def test_bernoulli_round_has_no_gradient_where_it_rounds():
    method = make("bernoulli", draw="round", rescale=False, hard="threshold")
    weights, _ = begun(method)
    scores = {key: jnp.asarray(RANDOM.normal(size=shape), jnp.float32) for key, shape in SHAPES.items()}
    mask = method.mask(scores, weights, key=KEY, progress=jnp.float32(0))
    gradient = score_gradient(method, scores, weights)
    for key in SHAPES:
        sigma = 1 / (1 + np.exp(-np.asarray(scores[key], np.float64)))
        rounded = np.asarray(gradient[key]) == 0
        assert 0.3 < rounded.mean() < 0.7
        np.testing.assert_allclose(mask[key], np.where(rounded, sigma >= 0.5, sigma), rtol=1e-5)
        slope = np.where(rounded, 0, np.asarray(UPSTREAM[key]) * weights[key] * sigma * (1 - sigma))
        np.testing.assert_allclose(gradient[key], slope, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gem-miner", {"period": 0}),
        ("iterand", {"rate": 2.0}),
        ("hard-concrete", {"hard": "soft"}),
        ("signed", {"threshold": 1.0}),
        ("slot-machines", {"values": 128}),
        ("fedpm", {"clients": 0}),
        ("continuous-sparsification", {"rounds": 0}),
        ("multicoated", {"coats": "1,2"}),
        ("multicoated", {"coats": "a"}),
        ("piggyback", {"scores": "x"}),
        ("piggyback", {"scores": "constant"}),
        ("synflow", {"rounds": 0}),
        ("edge-popup", {"pattern": "2:4", "density": 0.3}),
        ("edge-popup", {"pattern": "2:4", "allocation": "erk"}),
        ("edge-popup", {"anneal": 2.0}),
        ("snip", {"pattern": "2:4", "allocation": "erk"}),
        ("bernoulli", {"draw": "x"}),
    ],
)
def test_options_that_make_no_sense_are_refused(name, options):
    with pytest.raises(UsageError):
        make(name, **options)
