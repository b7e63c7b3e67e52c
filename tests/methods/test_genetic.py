"""The genetic algorithm: who goes on, what children are made of, and that a population gets better."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supermask.errors import UsageError
from supermask.methods.genetic import Genetic
from supermask.types import Clock, InitContext

pytestmark = pytest.mark.usefixtures("compiled_quickly", "strict")

KEY = jax.random.key(0)
WEIGHTS = {"a/kernel": jnp.ones((6, 50)), "b/kernel": jnp.ones((50, 4))}
CONTEXT = InitContext(loss=None, response=None)
CLOCK = Clock(jnp.int32(0), 10, 100)


def generation(method, population, losses, key=KEY):
    """(the next population, state) once every mask had its turn; what the optimiser did meanwhile is ruined."""

    @jax.jit  # a turn is traced once, and not for each mask
    def update(ruined, state, now, loss):
        return method.after_update(ruined, state, now, WEIGHTS, key=key, clock=CLOCK, loss=loss)

    state, now = method.init_state(population, WEIGHTS), population
    for turn, loss in enumerate(losses):
        tried = method.mask(now, WEIGHTS, key=key, progress=jnp.float32(0), state=state)
        for name in WEIGHTS:
            np.testing.assert_array_equal(tried[name], population[name][turn])
        ruined = {name: s - 7 for name, s in now.items()}
        now, state = update(ruined, state, now, jnp.float32(loss))
        if turn < len(losses) - 1:
            assert all((now[name] == population[name]).all() for name in WEIGHTS)
    return now, state


def test_the_first_masks_have_the_density():
    population = Genetic(density=0.2, population=40).init(KEY, WEIGHTS, CONTEXT)
    assert {name: s.shape for name, s in population.items()} == {"a/kernel": (40, 6, 50), "b/kernel": (40, 50, 4)}
    for s in population.values():
        assert set(np.unique(s)) == {0.0, 1.0}
        assert abs(float(s.mean()) - 0.2) < 0.02
        assert len(np.unique(np.asarray(s).reshape(40, -1), axis=0)) == 40


def test_the_best_go_on_in_their_order_and_the_first_is_the_result():
    method = Genetic(population=5, parents=3, mutation=0.0)
    population = method.init(KEY, WEIGHTS, CONTEXT)
    bred, state = generation(method, population, [0.5, 0.7, 0.1, 0.9, 0.3])
    for name, s in bred.items():
        np.testing.assert_array_equal(s[:3], population[name][np.array([2, 4, 0])])
        np.testing.assert_array_equal(method.harden(bred, WEIGHTS)[name], population[name][2] == 1)
    assert state["turn"] == 0


@pytest.mark.parametrize("mutation", [0.0, 0.1, 1.0])
def test_children_take_each_weight_from_either_parent_and_are_flipped_as_often_as_asked(mutation):
    method = Genetic(population=62, parents=2, mutation=mutation)
    population = method.init(KEY, WEIGHTS, CONTEXT)
    bred, _ = generation(method, population, [0.1, 0.2] + [1.0] * 60)
    for name, s in population.items():
        children, (first, second) = np.asarray(bred[name][2:]), np.asarray(s[:2])
        agreed = first == second
        assert np.mean(children[:, agreed] != first[agreed]) == pytest.approx(mutation, abs=0.01)
        if mutation == 0:
            shares = np.mean(children[:, ~agreed] == first[~agreed], axis=1)
            # A quarter of the pairs is the same parent twice, on either side; half of the children are mixed.
            assert np.mean((shares > 0.3) & (shares < 0.7)) == pytest.approx(0.5, abs=0.2)
            assert set(shares[(shares <= 0.3) | (shares >= 0.7)]) == {0.0, 1.0}


def test_a_population_comes_near_a_mask_that_has_the_lowest_loss():
    random = np.random.default_rng(0)
    target = {name: jnp.asarray(random.random(w.shape) < 0.5, jnp.float32) for name, w in WEIGHTS.items()}
    method = Genetic(mutation=0.002)

    def wrong(mask):
        return sum(jnp.abs(mask[name] - target[name]).sum() for name in target)

    def step(carry, key):
        scores, state = carry
        loss = wrong(method.mask(scores, WEIGHTS, key=key, progress=jnp.float32(0), state=state))
        return method.after_update(scores, state, scores, WEIGHTS, key=key, clock=CLOCK, loss=loss), None

    first = method.init(KEY, WEIGHTS, CONTEXT)
    found, _ = jax.lax.scan(step, (first, method.init_state(first, WEIGHTS)), jax.random.split(KEY, 300 * 16))
    best = {name: mask.astype(jnp.float32) for name, mask in method.harden(found[0], WEIGHTS).items()}
    assert min(float(wrong({name: s[i] for name, s in first.items()})) for i in range(16)) > 200  # of 500 weights
    assert wrong(best) < 25


def test_all_masks_of_a_generation_see_the_same_batch():
    method = Genetic(population=3, parents=1)
    assert method.steps_per_epoch(25, 4) == 18
    batches = np.asarray(method.order(KEY, jnp.int32(2), 25, 4)).reshape(6, 3, 4)
    assert (batches == batches[:, :1]).all()
    assert len(set(batches[:, 0].ravel())) == 24
    assert (method.order(KEY, jnp.int32(3), 25, 4) != batches.ravel()).any()


@pytest.mark.parametrize("options", [{"population": 1}, {"parents": 0}, {"parents": 16}, {"mutation": 1.5}])
def test_what_makes_no_generation_is_refused(options):
    with pytest.raises(UsageError, match=f"{next(iter(options))} is {next(iter(options.values()))}; it must be"):
        Genetic(**options)
