"""A search within a mask, for every method: what the mask drops stays dropped, and counts are exact."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supermask import core, registry
from supermask.engine.within import within
from supermask.errors import UsageError
from supermask.masks.allocation import kept_count
from supermask.types import Clock, InitContext
from supermask.weights.inits import draw

pytestmark = pytest.mark.usefixtures("compiled_quickly", "strict")

SHAPES = {"conv1/kernel": (3, 3, 2, 4), "dense1/kernel": (20, 10), "head/kernel": (10, 5)}
KEY = jax.random.key(3)
LOSS = jnp.float32(1)
CONTEXT = InitContext(
    loss=lambda w, temperature: sum(jnp.sum(jnp.sin(3 * a) + a**3) for a in w.values()) / temperature,
    response=lambda w: sum(jnp.sum(jnp.abs(a) ** 1.5) for a in w.values()),
)
INSIDE = {name: np.random.default_rng(1).random(shape) < 0.6 for name, shape in SHAPES.items()}
METHODS = {name: registry.load("methods", name) for name in registry.names("methods")}
FITTING = [name for name in METHODS if name != "maskllm"]  # whose scores are not of single weights
EXACT = [name for name, kind in METHODS.items() if kind.keeps_density]
LONG = ("bernoulli", "biprop", "fedpm", "gem-miner", "grasp", "iterand", "multicoated", "slot-machines")  # to compile
VARIANTS = [
    *(pytest.param(n, {}, marks=pytest.mark.slow if n in LONG else []) for n in FITTING),
    ("edge-popup", {"rank": "value"}),
    *(
        pytest.param(name, options, marks=pytest.mark.slow)
        for name, options in (
            ("edge-popup", {"allocation": "global"}),
            ("edge-popup", {"anneal": 1.0}),
            ("edge-popup", {"layer_density": "head/*=0.1"}),
            ("piggyback", {"ternary": True}),
            ("sigmoid", {"hard": "continuous"}),
            ("fedpm", {"clients": 2}),
            ("iterand", {"period": 1, "rate": 1.0}),
        )
    ),
]


def made(name, inside=INSIDE, **options):
    """(method within, its parametrization, weights, scores, state)"""
    method = METHODS[name](**{"density": 0.3} | options)
    found = within(method, inside, "outer.safetensors")
    weights = {key: jnp.asarray(w) for key, w in draw("kaiming-normal", 1, SHAPES).items()}
    scores = found.init(KEY, weights, CONTEXT)
    return found, core.mask_search(found), weights, scores, found.init_state(scores, weights)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_dropped_weights_stay_dropped_and_counts_are_exact(name, options):
    found, rule, weights, scores, state = made(name, **options)
    method = found.method

    @jax.jit
    def steps(scores, state, weights):
        clock = Clock(jnp.int32(1), 4, 8)
        (product, _), pull_back = jax.vjp(lambda s: rule.weights(s, state, weights, KEY, clock), scores)
        (slope,) = pull_back(({key: jnp.ones_like(w) for key, w in product.items()}, jnp.float32(0)))
        moved = {key: s - 0.1 * slope[key] for key, s in scores.items()}
        scores, state = rule.after_update(moved, state, scores, weights, KEY, clock, LOSS)
        # Once more, as at the end of an epoch, when methods freeze, send and redraw.
        scores, state = rule.after_update(scores, state, scores, weights, KEY, Clock(jnp.int32(7), 4, 8), LOSS)
        mask = rule.result(scores, state, weights)
        plain = method.harden(scores, weights)
        return product, scores, mask, rule.result_weights(mask, weights, KEY), plain

    product, scores, mask, final, plain = steps(scores, state, weights)
    for key, kept in INSIDE.items():
        assert (np.asarray(product[key])[~kept] == 0).all()
        assert (np.asarray(mask[key])[~kept] == 0).all()
        assert (np.asarray(final[key])[~kept] == 0).all()
        assert np.asarray(product[key])[kept].any()
        assert np.isfinite(scores[key]).all()
        assert (np.asarray(scores[key])[..., ~kept] == 0).all()
    assert jax.tree.map(lambda m: (m.shape, m.dtype), mask) == jax.tree.map(lambda m: (m.shape, m.dtype), plain)
    if not method.keeps_density:
        return
    counts = {key: int(np.count_nonzero(m)) for key, m in mask.items()}
    assert sum(counts.values()) == sum(int(np.count_nonzero(m)) for m in plain.values())
    if getattr(method, "allocation", "global") == "uniform" and not options:
        assert counts == {key: kept_count(0.3, kept.size) for key, kept in INSIDE.items()}
    elif getattr(method, "allocation", "global") == "global":
        assert sum(counts.values()) == kept_count(0.3, sum(kept.size for kept in INSIDE.values()))


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n == "iterand" else pytest.mark.slow) for n in FITTING])
def test_within_everything_is_the_method_itself(name):
    everything = {key: np.ones(shape, bool) for key, shape in SHAPES.items()}
    found, rule, weights, scores, state = made(name, everything)
    plain, clock = core.mask_search(found.method), Clock(jnp.int32(1), 4, 8)
    first = found.method.init(KEY, weights, CONTEXT)
    jax.tree.map(np.testing.assert_array_equal, scores, first)
    own = found.method.init_state(first, weights)
    jax.tree.map(
        np.testing.assert_array_equal,
        rule.weights(scores, state, weights, KEY, clock),
        plain.weights(first, own, weights, KEY, clock),
    )
    jax.tree.map(np.testing.assert_array_equal, rule.result(scores, state, weights), plain.result(first, own, weights))


@pytest.mark.parametrize("name", EXACT)
def test_scores_of_zero_rank_above_what_is_dropped(name):
    """As of a dead unit, which no gradient reaches."""
    found, rule, weights, scores, state = made(name)
    zero = {key: jnp.zeros_like(s) for key, s in scores.items()}
    mask = rule.result(zero, state, weights)
    total = sum(int(np.count_nonzero(m)) for m in mask.values())
    assert total == sum(int(np.count_nonzero(m)) for m in found.method.harden(scores, weights).values())
    assert all((np.asarray(mask[key])[~kept] == 0).all() for key, kept in INSIDE.items())


def test_a_layer_that_keeps_nothing_is_no_trouble_for_first_scores():
    inside = INSIDE | {"head/kernel": np.zeros((10, 5), bool)}
    for name in EXACT:
        options = {} if name == "gem-miner" else {"allocation": "global"}
        _, rule, weights, scores, state = made(name, inside, **options)
        assert all(np.isfinite(s).all() for s in scores.values())
        mask = rule.result(scores, state, weights)
        assert sum(int(np.count_nonzero(m)) for m in mask.values()) == kept_count(0.3, 322)


def test_too_little_room_is_refused_with_what_would_fit():
    room = sum(int(kept.sum()) for kept in INSIDE.values())
    with pytest.raises(UsageError, match=rf"outer\.safetensors keeps {room} of 322: give --density (\S+) at most") as e:
        made("edge-popup", density=0.8)
    largest = float(str(e.value).split("--density ")[1].split()[0])
    assert kept_count(largest, 322) == room
    assert made("edge-popup", density=largest, allocation="global")
    few = INSIDE | {"head/kernel": np.arange(50).reshape(10, 5) < 4}
    with pytest.raises(UsageError, match=r"keeps 15 of the 50 weights of head/kernel, where .* keeps 4: .*global"):
        made("edge-popup", few)
    assert made("edge-popup", few, allocation="global")
    assert made("signed", few)  # enforces no density
    with pytest.raises(UsageError, match="a pattern chooses among all inputs"):
        made("edge-popup", pattern="1:4", density=0.25)
    with pytest.raises(UsageError, match="a pattern chooses among all inputs"):
        made("maskllm", density=0.25)
    few = INSIDE | {"dense1/kernel": np.arange(200).reshape(20, 10) % 10 > 0}  # nothing of the first output
    with pytest.raises(UsageError, match=r"min_per_unit 1 asks for more weights of a unit of dense1/kernel than outer"):
        made("edge-popup", few, min_per_unit=1)


def test_weights_of_one_magnitude_are_not_told_apart_by_those_dropped():
    method = METHODS["magnitude"](density=0.3)
    found = within(method, INSIDE, "outer.safetensors")
    weights = {key: jnp.asarray(w) for key, w in draw("signed-constant", 1, SHAPES).items()}
    with pytest.raises(UsageError, match="the same magnitude"):
        found.init(KEY, weights, CONTEXT)


def test_dropped_values_are_never_chosen_again_by_slot_machines():
    method = METHODS["slot-machines"](values=3)
    weights = draw("kaiming-normal", 1, {"w": (6, 5)})
    chosen = {"w": np.arange(30, dtype=np.int8).reshape(6, 5) % 4}
    product = np.asarray(method.effective(weights, chosen)["w"])
    np.testing.assert_array_equal(product == 0, chosen["w"] == 0)
    np.testing.assert_array_equal(product[chosen["w"] == 1], weights["w"][chosen["w"] == 1])
    assert dataclasses.replace(method, values=3) == method
