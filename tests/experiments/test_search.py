"""Searches on real digits: they learn, they repeat, and the frozen weights stay frozen."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import found_groups, problem_of, watch

import supermask
from supermask import core
from supermask.data import augment
from supermask.data.splits import load_dataset
from supermask.engine import trainer
from supermask.engine.epoch import training_program
from supermask.engine.problem import on_this_machine
from supermask.errors import DivergedError
from supermask.experiments.bench import SteadySteps
from supermask.resolve import resolve
from supermask.weights.inits import draw

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SMALL = {"arch": "lenet300", "width": 0.1, "epochs": 3}


def run(**fields):
    return supermask.search(supermask.SearchConfig(**{**SMALL, **fields}))


@pytest.fixture(scope="module")
def carrying():
    """Which of CARRYING -> the ticket of its search, which several tests look at."""
    return functools.cache(lambda i: run(**CARRYING[i])[0])


@pytest.fixture(scope="module")
def ticket():
    return run(width=1.0, epochs=20)[0]


@pytest.mark.slow
def test_the_search_beats_a_random_mask_of_the_same_density(ticket):
    [floor] = run(method="random", epochs=None, width=1.0)
    found, random = supermask.evaluate(ticket), supermask.evaluate(floor)
    assert found.density == random.density == 0.5
    assert found.accuracy > 0.93
    assert random.accuracy < 0.35


def test_evaluation_reproduces_what_the_ticket_recorded(ticket):
    found = supermask.evaluate(ticket)
    assert found.reproduced
    assert found.examples == 360
    assert found.accuracy * 360 == pytest.approx(round(found.accuracy * 360), abs=1e-9)
    assert supermask.evaluate(ticket, split="train").examples == 1293
    assert supermask.evaluate(ticket, split="validation").accuracy == ticket.metrics["val_accuracy"]


def test_a_saved_ticket_evaluates_to_the_same_number(ticket, tmp_path):
    loaded = supermask.Ticket.load(ticket.save(tmp_path / "t.safetensors"))
    assert supermask.evaluate(loaded).accuracy == supermask.evaluate(ticket).accuracy
    embedded = supermask.Ticket.load(ticket.embed_weights().save(tmp_path / "e.safetensors"))
    assert supermask.evaluate(embedded).accuracy == supermask.evaluate(ticket).accuracy


def test_weights_are_bitwise_those_of_the_seed(ticket):
    expected = draw("signed-constant", 0, ticket.shapes)
    for name, array in ticket.weights().items():
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize(
    "method",
    [
        "edge-popup",
        *(
            pytest.param(m, marks=pytest.mark.slow)
            for m in ("bernoulli", "sigmoid", "iterand", "gem-miner", "hard-concrete")
        ),
    ],
)
def test_same_seed_same_ticket_other_seed_other_ticket(method):
    one, again, other = (run(method=method, epochs=2, seed=seed)[0] for seed in (4, 4, 5))
    assert one.to_bytes() == again.to_bytes()
    assert one.to_bytes() != other.to_bytes()


CARRYING = [  # methods that carry something from step to step, with events in these few
    {"method": "iterand", "options": {"period": 5, "rate": 0.5}},
    {"method": "fedpm", "options": {"clients": 3, "local_epochs": 1}},
    {"method": "gem-miner", "options": {"period": 1}, "density": 0.2},
]


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("fields", [{}, *(pytest.param(f, marks=pytest.mark.slow) for f in CARRYING)])
def test_seeds_in_one_search_are_the_seeds_alone(fields):
    together = run(seed=3, seeds=2, **fields)
    alone = [run(seed=seed, **fields)[0] for seed in (3, 4)]
    assert [t.to_bytes() for t in together] == [t.to_bytes() for t in alone]


@pytest.mark.parametrize("i", [None, *(pytest.param(i, marks=pytest.mark.slow) for i in range(len(CARRYING)))])
def test_how_an_epoch_is_cut_into_calls_changes_nothing(i, carrying, monkeypatch):
    whole = run()[0] if i is None else carrying(i)
    monkeypatch.setattr(trainer._Fit, "_steps_per_call", lambda self: 3)
    assert run(**{} if i is None else CARRYING[i])[0].to_bytes() == whole.to_bytes()


def test_a_redrawn_ticket_means_the_same_after_reading_it(carrying, tmp_path):
    ticket = carrying(0)
    assert max(int(mask.max()) for mask in ticket.mask.values()) > 2  # kept weights that were drawn again
    loaded = supermask.Ticket.load(ticket.save(tmp_path / "t.safetensors"))
    assert supermask.evaluate(loaded).reproduced
    for name, array in loaded.effective().items():
        np.testing.assert_array_equal(array, ticket.effective()[name])


@pytest.mark.slow
def test_clients_end_where_the_rounds_say(carrying):
    ticket = carrying(1)
    shares = {int(value) for mask in ticket.mask.values() for value in np.unique(mask)}
    # The server's probabilities are means of 3 votes, each 0.01 or 0.99, in 255ths.
    assert shares == {round((0.99 * yes + 0.01 * (3 - yes)) / 3 * 255) for yes in range(4)} == {3, 86, 169, 252}


def test_nothing_is_compiled_twice():
    compiled = []
    problem = problem_of(**SMALL, seeds=2, devices=1)
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **more: compiled.append(name) if "backend_compile" in name else None
    )
    try:
        found = found_groups(problem)
        next(found)
        before = len(compiled)
        next(found)
    finally:
        jax.monitoring.clear_event_listeners()
    assert before > 0
    assert len(compiled) == before


def test_a_callback_stops_the_search_with_the_best_mask_so_far():
    seen = []
    observer = watch(epoch=lambda m: seen.append(float(m.val_accuracy[0])), stop=lambda: len(seen) >= 4)
    [found] = found_groups(problem_of(**{**SMALL, "epochs": 50}), observer)
    assert found.group.state.interrupted
    assert len(seen) == 4
    [ticket] = found.tickets
    assert ticket.metrics["val_accuracy"] == max(seen)
    assert ticket.metrics["epochs"] == 1 + seen.index(max(seen))


def test_stopped_before_the_first_epoch_there_is_no_ticket():
    assert supermask.search(supermask.SearchConfig(**SMALL), callbacks=[watch(stop=lambda: True)]) == []


def test_best_is_chosen_by_validation_accuracy():
    seen = []
    config = supermask.SearchConfig(
        **{**SMALL, "epochs": 12, "learning_rate": 20.0, "schedule": "constant"}, select="best"
    )
    [ticket] = supermask.search(config, callbacks=[watch(epoch=lambda m: seen.append(float(m.val_accuracy[0])))])
    assert ticket.metrics["val_accuracy"] == max(seen)
    assert max(seen) > seen[-1]


def test_a_loss_that_is_not_finite_stops_the_search():
    with pytest.raises(DivergedError, match="seed 0 became"):
        run(method="sigmoid", optimizer="sgd", learning_rate=1e9, weight_decay=1e9)


def test_metrics_are_columns_of_seeds():
    seen = []
    supermask.search(supermask.SearchConfig(**SMALL), callbacks=[watch(epoch=seen.append)])
    assert [m.epoch for m in seen] == [1, 2, 3]
    for m in seen:
        assert m.seeds == (0,)
        assert m.loss.shape == m.train_accuracy.shape == m.val_accuracy.shape == m.density.shape == (1,)
        assert m.density[0] == 0.5
        assert m.images_per_second[0] > 0
    assert seen[-1].loss[0] < seen[0].loss[0]


def test_sampled_tickets_are_the_mean_of_their_draws():
    [ticket] = run(method="bernoulli", epochs=10)
    found = supermask.evaluate(ticket, samples=4)
    assert found.samples == 4
    assert found.accuracy_std > 0
    assert found.reproduced
    assert supermask.evaluate(ticket, samples=4).accuracy == found.accuracy


# --- the parts -------------------------------------------------------------------------------------------------


def test_recipes_fill_what_is_left_open():
    config = resolve(supermask.SearchConfig(method="bernoulli", learning_rate=3.0))
    assert (config.learning_rate, config.weight_decay, config.init, config.epochs) == (3.0, 0.0, "glorot-normal", 20)
    still_open = {"image_size", "devices", "micro_batch", "maskable", "unmasked", "train"}
    assert {key for key, value in config.to_dict().items() if value is None} == still_open
    assert on_this_machine(config).devices == 2
    assert resolve(supermask.SearchConfig(method="random", epochs=3)).epochs == 0


def test_validation_is_held_out_of_train_and_the_same_for_every_seed():
    one, two = (load_dataset(supermask.SearchConfig(seed=seed)) for seed in (0, 1))
    np.testing.assert_array_equal(one.validation.inputs, two.validation.inputs)
    assert len(one.train) + len(one.validation) == 1437
    whole = {image.tobytes() for image in one.train.inputs}
    assert not whole & {image.tobytes() for image in one.validation.inputs}


def test_cosine_moves_once_an_epoch_and_decay_is_l2():
    config = supermask.SearchConfig(**SMALL, learning_rate=0.5, weight_decay=0.1, momentum=0.0)
    problem = problem_of(config)
    optimizer, steps = problem.optimizer, problem.pipeline.steps_per_epoch
    scores = {"k": jnp.ones((2, 2))}
    state = optimizer.init(scores)
    for step in range(3 * steps):
        updates, state = optimizer.update({"k": jnp.full((2, 2), 2.0)}, state, scores)
        rate = 0.5 * 0.5 * (1 + np.cos(np.pi * (step // steps) / 3))
        np.testing.assert_allclose(updates["k"], -rate * (2.0 + 0.1 * 1.0), rtol=1e-5)


def test_crop_flip_shifts_and_mirrors_each_image_on_its_own():
    batch = np.random.default_rng(0).integers(1, 256, (64, 8, 8, 3)).astype(np.uint8)
    out = np.asarray(augment.crop_flip(jax.random.key(0), batch))
    padded = np.pad(batch, ((0, 0), (4, 4), (4, 4), (0, 0)))
    seen = set()
    for i in range(64):
        matches = [
            (top, left, mirror)
            for top in range(9)
            for left in range(9)
            for mirror in (1, -1)
            if np.array_equal(padded[i, top : top + 8, left : left + 8][:, ::mirror], out[i])
        ]
        assert matches
        seen.add(matches[0])
    assert len(seen) > 30
    assert {mirror for _, _, mirror in seen} == {1, -1}


def test_normalise_is_per_channel():
    batch = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3)).astype(np.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    expected = (batch / 255.0 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(augment.normalise(batch, mean, std), expected, rtol=1e-5, atol=1e-6)


def test_images_are_resized():
    dataset = load_dataset(supermask.SearchConfig(image_size=16))
    assert dataset.train.inputs.shape[1:] == dataset.test.inputs.shape[1:] == (16, 16, 1)


def test_the_program_has_no_cpu_convolution_in_its_loop():
    problem = problem_of(arch="conv2", width=0.1)
    rule = core.mask_search(problem.method)
    run = SteadySteps(problem, rule)
    steps = run.trainer.steps
    program = training_program(problem, lambda numbers: rule, steps.feed, run.sharding)
    arguments = steps._arguments(run.state, run._frozen, run._chunk, 0, 1)
    text = str(jax.make_jaxpr(program)(*arguments))
    assert "dot_general" in text
    assert "conv_general_dilated" not in text


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("method", ["snip", "grasp", "synflow"])
def test_masks_that_look_at_the_network_are_exact_repeatable_and_the_seeds_own(method):
    one, other = run(method=method, density=0.2, seeds=2)
    [again] = run(method=method, density=0.2, seed=1)
    assert other.to_bytes() == again.to_bytes()
    assert not all(np.array_equal(one.mask[name], other.mask[name]) for name in one.mask)
    total = sum(mask.size for mask in one.mask.values())
    assert sum(int(mask.sum()) for mask in one.mask.values()) == round(0.2 * total)
    shares = [row["density"] for row in one.layers()]
    assert max(shares) > 1.2 * min(shares)  # ranked over all layers
