"""Lagrangian control: any soft method ends at the density that it is asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import problem_of

import supermask
from supermask import core, masks, registry
from supermask.engine.lagrangian import Lagrangian, controlled, root
from supermask.engine.within import within
from supermask.errors import UsageError
from supermask.methods._controlled import Controlled
from supermask.types import Clock, InitContext
from supermask.weights.inits import draw

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SHAPES = {"conv1/kernel": (3, 3, 8, 16), "head/kernel": (60, 40)}
TOTAL = sum(int(np.prod(shape)) for shape in SHAPES.values())
KEY, LOSS, STEPS = jax.random.key(3), jnp.float32(1), 40
SOFT = [name for name in registry.names("methods") if issubclass(registry.load("methods", name), Controlled)]


def moved(name, density, inside=None, **options):
    """The hardened masks after each of some steps in which all scores drift at random, and the first scores."""
    method = controlled(registry.load("methods", name)(density=density, control="lagrangian", **options))
    assert isinstance(method, Lagrangian)
    if inside is not None:
        method = within(method, inside, "outer.safetensors")
    rule = core.mask_search(method)
    weights = {key: jnp.asarray(w) for key, w in draw("kaiming-normal", 1, SHAPES).items()}
    scores = first = method.init(KEY, weights, InitContext(None, None))
    state = method.init_state(scores, weights)

    @jax.jit
    def step(scores, state, i):
        pushed = {}
        for n, (key, s) in enumerate(scores.items()):
            noise = 0.3 + jax.random.normal(jax.random.fold_in(jax.random.fold_in(KEY, i), n), s.shape)
            pushed[key] = s + (0.05 * jnp.abs(first[key]).mean() + 0.01) * noise
        scores, state = rule.after_update(pushed, state, scores, weights, KEY, Clock(i, 10, STEPS), LOSS)
        return scores, state, rule.result(scores, state, weights)

    found = []
    for i in range(STEPS):
        scores, state, mask = step(scores, state, jnp.int32(i))
        assert all(np.isfinite(s).all() for s in scores.values())
        found.append(float(masks.kept_fraction(mask)))
    return found


FAST = ("bernoulli", "continuous-sparsification", "signed")  # one of each: drawn, sharpened, by a threshold
VARIANTS = [
    pytest.param(name, options, marks=() if name in FAST and not options else pytest.mark.slow)
    for name, options in (
        *((name, {}) for name in SOFT),
        ("bernoulli", {"hard": "threshold"}),
        ("hard-concrete", {"hard": "binary"}),
        ("continuous-sparsification", {"rounds": 2}),
        ("piggyback", {"scores": "constant", "threshold": 0.005}),
    )
]


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_the_last_mask_has_the_density(name, options):
    assert moved(name, 0.05, **options)[-1] == pytest.approx(0.05, rel=0.02)


def test_the_target_may_be_above_what_the_scores_keep_at_first():
    assert moved("piggyback", 0.8)[-1] == pytest.approx(0.8, rel=0.02)


def test_the_target_falls_with_the_cube_of_the_time_left_from_where_the_scores_start():
    found = moved("piggyback", 0.1)
    for i, density in enumerate(found):
        left = max(0.0, 1 - i / (STEPS - 1) / 0.5) ** 3
        assert density == pytest.approx(0.1 + left * 0.4, rel=0.05)


def test_methods_named_in_the_documentation_can_be_controlled():
    gates = {"hard-concrete", "gaussian-gates", "continuous-sparsification"}
    assert gates | {"bernoulli", "signed", "piggyback", "sigmoid"} <= set(SOFT)


def test_within_a_ticket_the_density_is_still_of_all_weights():
    inside = {key: np.random.default_rng(1).random(shape) < 0.4 for key, shape in SHAPES.items()}
    assert moved("signed", 0.1, inside)[-1] == pytest.approx(0.1, rel=0.02)
    with pytest.raises(UsageError, match=r"outer\.safetensors keeps .* give --density 0\.\d+ at most"):
        moved("signed", 0.5, inside)


def test_scores_move_by_one_price():
    """Each score is lowered by the same number, whatever its layer: the multiplier."""
    method = controlled(registry.load("methods", "piggyback")(density=0.25, control="lagrangian"))
    weights = {key: jnp.asarray(w) for key, w in draw("kaiming-normal", 1, SHAPES).items()}
    scores = method.init(KEY, weights, InitContext(None, None))
    state = method.init_state(scores, weights)
    after, _ = method.after_update(scores, state, scores, weights, key=KEY, clock=Clock(jnp.int32(9), 1, 10))
    together = np.sort(np.concatenate([np.asarray(s).ravel() for s in scores.values()]))[::-1]
    kept = round(0.25 * TOTAL)
    prices = np.concatenate([np.asarray(scores[key] - after[key]).ravel() for key in SHAPES])
    assert np.ptp(prices) < 1e-6
    slack = round(0.003 * kept) + 1  # the price lies between the scores that are the last to be kept
    assert together[kept + slack] < prices[0] < together[kept - slack]


@pytest.mark.parametrize("reach", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("true", [-3.0, 0.0, 0.002, 500.0])
def test_root_is_found_from_any_reach(true, reach):
    found = jax.jit(lambda: root(lambda x: jnp.tanh(true - x), jnp.float32(reach), jnp.float32(1e-4)))()
    assert float(found) == pytest.approx(true, abs=2e-4)


def test_root_at_a_jump_and_nowhere():
    find = lambda f: float(root(f, jnp.float32(0.01), jnp.float32(1e-3)))  # noqa: E731
    assert find(lambda x: jnp.where(x < 0.7, 1.0, -1.0)) == pytest.approx(0.7, abs=1e-4)
    assert find(lambda x: jnp.float32(1)) == 0


def test_without_control_nothing_is_wrapped_and_scores_start_at_the_density():
    method = registry.load("methods", "bernoulli")(density=0.1)
    assert controlled(method) is method
    assert method.start == 0.1
    assert registry.load("methods", "bernoulli")(density=0.1, control="lagrangian").start == 0.5
    assert controlled(registry.load("methods", "edge-popup")()).keeps_density


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("sigmoid", {"hard": "continuous"}, "needs hard=binary"),
        ("piggyback", {"ternary": True}, "leave out control"),
        ("signed", {"control": "lagrange"}, "lagrangian"),
        ("hard-concrete", {"average": 0.999}, "leave out average"),
        ("continuous-sparsification", {"temperature": "epoch"}, "leave out temperature=epoch"),
    ],
)
def test_what_has_no_density_to_control_is_refused(name, options, said):
    with pytest.raises(UsageError, match=said):
        registry.load("methods", name)(**{"control": "lagrangian"} | options)


def test_a_search_ends_at_the_density_and_its_ticket_evaluates_as_it_was_scored():
    config = supermask.SearchConfig(
        arch="lenet300", width=0.1, method="continuous-sparsification", density=0.2, epochs=4
    ).replace(options={"control": "lagrangian"})
    problem = problem_of(config)
    assert isinstance(problem.searcher, Lagrangian)
    [ticket] = supermask.search(config)
    assert ticket.density == pytest.approx(0.2, rel=0.02)
    assert supermask.evaluate(ticket).reproduced
