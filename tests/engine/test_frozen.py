"""Weights that the seed keeps or removes for good, and a least number of weights for each output unit."""

import dataclasses
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import problem_of, random_ticket

import supermask
from supermask import core, masks, registry
from supermask.engine.frozen import Frozen
from supermask.engine.saliency import first_scores
from supermask.errors import BadFileError, UsageError
from supermask.methods._freezing import Freezing
from supermask.methods._topk import Selecting, TopK
from supermask.storage.container import seal, unseal
from supermask.types import Clock, InitContext
from supermask.weights.frozen import frozen_pattern
from supermask.weights.inits import draw

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SHAPES = {"conv1/kernel": (3, 3, 2, 4), "dense1/kernel": (20, 10), "head/kernel": (10, 5)}
KEY = jax.random.key(3)
LOSS = jnp.float32(1)
CONTEXT = InitContext(
    loss=lambda w, temperature: sum(jnp.sum(jnp.sin(3 * a) + a**3) for a in w.values()) / temperature,
    response=lambda w: sum(jnp.sum(jnp.abs(a) ** 1.5) for a in w.values()),
)
METHODS = {name: registry.load("methods", name) for name in registry.names("methods")}
EXACT = [name for name, kind in METHODS.items() if kind.keeps_density]
FAST = ("edge-popup", "gem-miner", "random")
FIXED = {"freeze_pruned": 0.3, "freeze_kept": 0.2}


def options_of(name):
    return {"coats": "1,0.8", "freeze_pruned": 0.3, "freeze_kept": 0.2} if name == "multicoated" else FIXED


def after_a_step(method):
    """(mask of training, hardened mask, scores) after one step of a parametrization, and its first scores."""
    rule = core.mask_search(method)
    weights = {key: jnp.asarray(w) for key, w in draw("kaiming-normal", 1, SHAPES).items()}
    scores = method.init(KEY, weights, CONTEXT)
    state = method.init_state(scores, weights)

    @jax.jit
    def step(scores, state):
        clock = Clock(jnp.int32(7), 4, 8)
        (product, _), pull_back = jax.vjp(lambda s: rule.weights(s, state, weights, KEY, clock), scores)
        (slope,) = pull_back(({key: jnp.ones_like(w) for key, w in product.items()}, jnp.float32(0)))
        moved = {key: s - 0.1 * slope[key] for key, s in scores.items()}
        moved, after = rule.after_update(moved, state, scores, weights, KEY, clock, LOSS)
        return product, slope, rule.result(moved, after, weights), moved

    return step(scores, state)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in EXACT])
def test_frozen_weights_stay_and_the_density_is_exact(name):
    method = METHODS[name](density=0.4, **options_of(name))
    found = Frozen.of_seed(method, SHAPES, 5)
    product, slope, mask, scores = after_a_step(found)
    for key, pattern in frozen_pattern(5, SHAPES, 0.3, 0.2).items():
        kept = np.asarray(mask[key]) != 0
        assert kept[pattern > 0].all()
        assert not kept[pattern < 0].any()
        assert not np.asarray(product[key])[pattern < 0].any()
        assert not np.asarray(slope[key])[pattern != 0].any()
        assert not np.asarray(scores[key])[pattern != 0].any()
        if method.learned:
            assert np.asarray(slope[key])[pattern == 0].any()
    total = sum(int(np.count_nonzero(m)) for m in mask.values())
    size = sum(m.size for m in mask.values())
    assert total == pytest.approx(0.4 * size, abs=len(SHAPES) / 2)


def test_every_method_with_an_exact_density_can_be_frozen_and_annealed():
    """What freezes, anneals and guards units is in base classes, so that no method lacks it."""
    for name in EXACT:
        kind = METHODS[name]
        assert issubclass(kind, Freezing), name
        assert issubclass(kind, TopK) or not (issubclass(kind, Selecting) and kind.learned), name


def test_the_pattern_is_of_the_seed_alone_and_exact():
    one, again, other = (frozen_pattern(seed, SHAPES, 0.25, 0.5) for seed in (0, 0, 1))
    for key, shape in SHAPES.items():
        np.testing.assert_array_equal(one[key], again[key])
        assert (one[key] != other[key]).any()
        size = np.prod(shape)
        assert [(one[key] < 0).sum(), (one[key] > 0).sum()] == [round(0.25 * size), round(0.5 * size)]
    alone = frozen_pattern(0, {"head/kernel": (10, 5)}, 0.25, 0.5)
    np.testing.assert_array_equal(alone["head/kernel"], one["head/kernel"])
    # For ever: tickets depend on it.
    fixed = frozen_pattern(7, {"head/kernel": (10,)}, 0.3, 0.2)["head/kernel"]
    assert fixed.tolist() == [0, -1, 0, 0, -1, 1, -1, 0, 0, 1]


@pytest.fixture
def small():
    return supermask.SearchConfig(arch="lenet300", width=0.1, density=0.4, epochs=1, seeds=2, options=FIXED)


@pytest.mark.slow
def test_the_ticket_holds_only_what_was_searched_for(small, tmp_path):
    tickets = supermask.search(small)
    plain = supermask.search(small.replace(options={}, seeds=1))[0]
    for ticket in tickets:
        pattern = frozen_pattern(ticket.config.seed, {k: m.shape for k, m in ticket.mask.items()}, 0.3, 0.2)
        again = supermask.Ticket.load(ticket.save(tmp_path / "ticket.safetensors"))
        for key, mask in ticket.mask.items():
            np.testing.assert_array_equal(again.mask[key], mask)
            assert mask[pattern[key] > 0].all()
            assert not mask[pattern[key] < 0].any()
        # Half of the weights are searched for, and of these 0.2 / 0.5 kept: an ideal code needs 0.5 * H(0.4) a weight.
        entropy = -0.4 * np.log2(0.4) - 0.6 * np.log2(0.6)
        assert ticket.bits_per_parameter == pytest.approx(0.5 * entropy, abs=0.02)
        assert supermask.evaluate(again).reproduced
    size = sum(mask.size for mask in plain.mask.values())
    assert len(plain.to_bytes()) - len(tickets[0].to_bytes()) == pytest.approx(size / 16, abs=64)
    assert any((one != two).any() for one, two in zip(*(t.mask.values() for t in tickets), strict=True))


def test_a_mask_that_is_not_as_the_seed_says_is_stored_whole(tmp_path):
    ticket, _ = random_ticket("lenet300", (8, 8, 1), width=0.1)
    config = ticket.config.replace(options=dict(ticket.config.options) | FIXED)
    odd = replace(ticket, metrics={"val_accuracy": 0.5}, config=config)
    again = supermask.Ticket.load(odd.save(tmp_path / "odd.safetensors"))
    assert all((again.mask[key] == mask).all() for key, mask in ticket.mask.items())


def test_a_ticket_whose_shares_do_not_fit_its_bits_is_refused(small, tmp_path):
    [ticket] = supermask.search(small.replace(seeds=1, epochs=0))
    document, tensors = unseal(ticket.to_bytes(), tmp_path, 2)
    for options in ({}, FIXED | {"freeze_pruned": 0.31}):
        document["config"] = ticket.config.replace(options=options).to_dict()
        path = tmp_path / "changed.safetensors"
        path.write_bytes(seal(document, tensors))
        with pytest.raises(BadFileError, match="is not a complete ticket"):
            supermask.Ticket.load(path)


def test_each_seed_freezes_other_weights_in_one_compiled_program(small):
    problem = problem_of(small)
    start = first_scores(problem)
    states = [start(seed, problem.weights(seed))[1] for seed in (0, 1)]
    assert any((states[0]["locked"][key] != states[1]["locked"][key]).any() for key in states[0]["locked"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"freeze_pruned": -0.1}, "both must be at least 0"),
        ({"freeze_pruned": 0.5, "freeze_kept": 0.5}, "their sum below 1"),
        ({"freeze_kept": 0.5}, r"from 0\.5 to 1"),
        ({"freeze_pruned": 0.8}, r"from 0 to 0\.2"),
        ({"freeze_kept": 0.1, "pattern": "2:4", "density": 0.5}, "leave out freeze_pruned"),
        ({"min_per_unit": -1}, "0 or more"),
        ({"min_per_unit": 1, "pattern": "2:4", "density": 0.5}, "min_per_unit"),
    ],
)
def test_what_cannot_be_frozen_or_guarded_is_refused(options, said):
    with pytest.raises(UsageError, match=said):
        METHODS["edge-popup"](**{"density": 0.4} | options)


def test_a_layer_that_must_keep_less_than_is_kept_for_good_is_refused():
    method = METHODS["edge-popup"](density=0.4, layer_density="head/*=0.1", **FIXED)
    with pytest.raises(UsageError, match=r"keeps 5 of the 50 weights of head/kernel, where 10 are kept for good"):
        Frozen.of_seed(method, SHAPES, 0)
    with pytest.raises(UsageError, match=r"the last coat keeps 0\.08"):
        METHODS["multicoated"](density=0.4, coats="1,0.2", freeze_kept=0.1)


def test_freezing_within_a_ticket_is_refused(small, tmp_path):
    [outer] = supermask.search(small.replace(seeds=1, epochs=0, options={}))
    path = outer.save(tmp_path / "outer.safetensors")
    config = dataclasses.replace(supermask.SearchConfig.inside(path, outer.config), density=0.3, options=FIXED)
    with pytest.raises(UsageError, match="leave out one of them"):
        problem_of(config)


# --- min-per-unit ---------------------------------------------------------------------------------------------------


def numpy_guarded(values, count, least):
    """The best of each column first, then the best of the rest."""
    rows = values.reshape(-1, values.shape[-1]).copy()
    for column in rows.T:
        column[np.argsort(-column, kind="stable")[:least]] = np.inf
    kept = np.zeros(rows.size, bool)
    kept[np.argsort(-rows.ravel(), kind="stable")[:count]] = True
    return kept.reshape(values.shape)


@pytest.mark.parametrize("rank", ["magnitude", "value"])
@pytest.mark.parametrize("least", [1, 3])
def test_each_unit_keeps_its_best_weights_and_the_density_stays(rank, least):
    method = METHODS["edge-popup"](density=0.3, min_per_unit=least, rank=rank)
    weights = {key: jnp.asarray(w) for key, w in draw("kaiming-normal", 1, SHAPES).items()}
    scores = method.init(KEY, weights, CONTEXT)
    # Units whose scores are all low would keep nothing.
    scores = {key: s.at[..., 0].multiply(1e-3) - (rank == "value") for key, s in scores.items()}
    method.check(SHAPES)
    for key, mask in method.harden(scores, weights).items():
        values = np.asarray(scores[key]) if rank == "value" else np.abs(scores[key])
        np.testing.assert_array_equal(mask, numpy_guarded(values, round(0.3 * values.size), least))
        assert np.asarray(mask).reshape(-1, mask.shape[-1]).sum(0).min() >= least


def test_units_are_guarded_over_all_layers_and_in_training_alike():
    method = METHODS["edge-popup"](density=0.1, min_per_unit=1, allocation="global", anneal=0.5)
    weights = {key: jnp.asarray(w) for key, w in draw("kaiming-normal", 1, SHAPES).items()}
    scores = {key: s * (1e-3 if key == "head/kernel" else 1) for key, s in method.init(KEY, weights, CONTEXT).items()}
    hard, soft = method.harden(scores, weights), method.mask(scores, weights, key=KEY, progress=jnp.float32(1))
    for key, mask in hard.items():
        np.testing.assert_array_equal(mask, np.asarray(soft[key]) > 0)
        assert np.asarray(mask).reshape(-1, mask.shape[-1]).any(0).all()
    assert sum(int(m.sum()) for m in hard.values()) == masks.kept_count(0.1, sum(m.size for m in hard.values()))


def test_too_few_weights_for_the_units_are_refused():
    with pytest.raises(UsageError, match=r"needs 8 weights for the 4 units of conv1/kernel, which keeps 4"):
        METHODS["edge-popup"](density=0.05, min_per_unit=2).check(SHAPES)
    with pytest.raises(UsageError, match="needs 38 weights, and 16 are kept: raise --density"):
        METHODS["edge-popup"](density=0.05, min_per_unit=2, allocation="global").check(SHAPES)
    with pytest.raises(UsageError, match="each unit of head/kernel has 10 weights"):
        METHODS["edge-popup"](density=0.9, min_per_unit=11).check(SHAPES)
    METHODS["edge-popup"](density=0.05, min_per_unit=0).check(SHAPES)
