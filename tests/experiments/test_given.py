"""Searches over given weights, and within a ticket, end to end."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import problem_of, tickets_of, watch

import supermask
from supermask import registry
from supermask.errors import BadFileError, RunFolderError, UsageError
from supermask.experiments.controls import control
from supermask.resolve import resolve

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SMALL = {"arch": "lenet300", "width": 0.1}
GIVEN = SMALL | {"method": "random"}  # nothing is trained, so little is compiled


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """A trained network, as its run folder."""
    folder = tmp_path_factory.mktemp("dense") / "run"
    supermask.train(supermask.TrainConfig(**SMALL, epochs=1), run=folder)
    return folder


@pytest.fixture(scope="module")
def outer(tmp_path_factory):
    """A ticket that keeps half of the weights."""
    [ticket] = supermask.search(supermask.SearchConfig(**GIVEN, seed=3))
    return ticket.save(tmp_path_factory.mktemp("outer") / "outer.safetensors")


def test_trained_weights_are_frozen_and_the_ticket_works_alone(dense, tmp_path):
    notes = []
    config = supermask.SearchConfig(**GIVEN, weights=str(dense), seeds=2)
    one, two = supermask.search(config, callbacks=[watch(note=notes.append)])
    [trained] = supermask.Run.open(dense).weights
    for ticket in (one, two):
        for name, array in trained.effective().items():
            np.testing.assert_array_equal(ticket.weights()[name], array)
    assert any((one.mask[name] != two.mask[name]).any() for name in one.mask)  # other scores
    assert sum("are those of weights-s0.safetensors (SHA-256" in note for note in notes) == 1
    loaded = supermask.Ticket.load(one.save(tmp_path / "t.safetensors"))
    assert (loaded.config.weights, loaded.config.init) == ("run", None)
    assert loaded.config.weights_sha256 == resolve(config).weights_sha256
    assert supermask.evaluate(loaded).reproduced
    assert registry.load("exporters", "torch").encode(loaded) == registry.load("exporters", "torch").encode(one)
    under = supermask.TrainConfig.under(tmp_path / "t.safetensors", loaded.config)
    [start] = supermask.train(under.replace(epochs=0))
    assert start.config.init is None  # as the search says it: nothing was drawn
    assert supermask.TrainedWeights.load(start.save(tmp_path / "w.safetensors")).config.init is None
    assert supermask.evaluate(start).reproduced
    np.testing.assert_array_equal(start.weights["head/kernel"], trained.effective()["head/kernel"])
    with pytest.raises(UsageError, match="no distribution to redraw them from"):
        control(loaded, "redrawn")
    replace(loaded, embedded=None).save(tmp_path / "t.safetensors")
    with pytest.raises(BadFileError, match="its weights were given, and it does not hold them"):
        supermask.Ticket.load(tmp_path / "t.safetensors")


def test_the_weights_of_a_ticket_give_the_search_that_found_it(outer):
    [found] = supermask.search(supermask.SearchConfig(**GIVEN, weights=str(outer), seed=3))
    ticket = supermask.Ticket.load(outer)
    assert found.fingerprint == ticket.fingerprint
    for name in ticket.mask:
        np.testing.assert_array_equal(found.mask[name], ticket.mask[name])


def test_a_run_is_known_by_the_content_of_its_weights(dense, tmp_path):
    file = tmp_path / "w.safetensors"
    [trained] = supermask.Run.open(dense).weights
    trained.save(file)
    config = supermask.SearchConfig(**GIVEN, weights=str(file))
    [first] = supermask.search(config, run=tmp_path / "run")
    moved = file.rename(tmp_path / "moved.safetensors")
    [again] = supermask.search(config.replace(weights=str(moved)), run=tmp_path / "run")
    assert again.to_bytes() == first.to_bytes()
    saved = supermask.Run.open(tmp_path / "run").config
    [again] = supermask.search(saved, run=tmp_path / "run")  # finished, so the file is not needed
    assert again.to_bytes() == first.to_bytes()
    replace(trained, weights={name: 2 * array for name, array in trained.weights.items()}).save(file)
    with pytest.raises(RunFolderError, match="weights_sha256"):
        supermask.search(config, run=tmp_path / "run")


def test_weights_of_another_network_are_refused_with_all_that_differs(dense):
    with pytest.raises(BadFileError, match=r"does not fit lenet300: dense1/kernel is .*; dense2/kernel is .*; head"):
        supermask.search(supermask.SearchConfig(**GIVEN | {"width": 0.2}, weights=str(dense)))


def test_within_a_ticket_its_mask_is_never_left(outer):
    ticket = supermask.Ticket.load(outer)
    config = supermask.SearchConfig.inside(outer, ticket.config)
    assert (config.width, config.seed, config.init) == (0.1, 3, "signed-constant")
    [found] = supermask.search(config.replace(density=0.2, epochs=1))
    assert found.density == pytest.approx(0.2, abs=1e-3)
    assert found.embedded is None  # the seed tells its weights
    assert found.fingerprint == ticket.fingerprint
    assert found.config.within == "outer.safetensors"
    for name, mask in found.mask.items():
        assert not (mask & ~ticket.mask[name]).any()
    assert supermask.evaluate(found).reproduced


@pytest.mark.slow
def test_a_search_within_a_ticket_goes_on_to_the_same_bytes(outer):
    ticket = supermask.Ticket.load(outer)
    more = {"density": 0.2, "epochs": 2, "method": "iterand", "options": {"period": 3}}
    problem = problem_of(supermask.SearchConfig.inside(outer, ticket.config).replace(**more))
    saved = []
    whole = tickets_of(problem, watch(due=lambda epochs: epochs == 1, save=saved.append))
    assert saved
    assert tickets_of(problem, resume=saved[0]) == whole


def test_within_a_ticket_over_given_weights_they_are_given_again(dense, tmp_path):
    config = supermask.SearchConfig(**GIVEN, weights=str(dense))
    [first] = supermask.search(config)
    path = first.save(tmp_path / "first.safetensors")
    [found] = supermask.search(supermask.SearchConfig.inside(path, first.config).replace(density=0.1, method="random"))
    assert found.fingerprint == first.fingerprint
    assert found.embedded is not None


def test_a_ticket_that_does_not_fit_or_keeps_too_little_is_refused(outer):
    config = supermask.SearchConfig(**GIVEN, within=str(outer))
    with pytest.raises(UsageError, match=r"outer\.safetensors keeps .*: give --density 0\.\d+ at most"):
        supermask.search(config.replace(density=0.9))
    with pytest.raises(BadFileError, match="with the same parameters masked: leave out what differs"):
        supermask.search(config.replace(width=0.2))
    with pytest.raises(BadFileError, match="it should be a ticket to search within"):
        supermask.search(config.replace(within="nowhere"))
