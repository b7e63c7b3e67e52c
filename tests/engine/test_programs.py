"""Searches and trainings that differ in their density or their learning rate alone share all compiled programs."""

import pytest

import supermask
from supermask.engine.aot import Compiled

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SMALL = {"arch": "lenet300", "width": 0.1, "batch_size": 256, "devices": 1, "epochs": 1}
METHODS = {
    "edge-popup": {},
    "edge-popup, all layers together, annealed": {"options": {"allocation": "global", "anneal": 0.5}},
    "edge-popup, half frozen": {"options": {"freeze_pruned": 0.3, "freeze_kept": 0.2}},
    "multicoated": {"method": "multicoated"},
    "iterand": {"method": "iterand", "warmup": 1.0},
    "gem-miner": {"method": "gem-miner"},
    "double-scoring": {"method": "double-scoring"},
    "bernoulli": {"method": "bernoulli"},
    "piggyback, controlled": {"method": "piggyback", "options": {"control": "lagrangian"}},
}


@pytest.fixture
def programs(monkeypatch):
    """A function that returns the texts of all programs of an experiment."""
    texts, prepare = [], Compiled.prepare

    def recorded(self, *arguments):
        if self._program is None:
            texts.append(self._function.lower(*arguments).as_text())
        return prepare(self, *arguments)

    def of(experiment, **fields):
        texts.clear()
        experiment(**fields)
        return sorted(texts)

    monkeypatch.setattr(Compiled, "prepare", recorded)
    return of


@pytest.mark.parametrize("fields", METHODS.values(), ids=METHODS)
def test_searches_that_differ_in_density_and_rate_share_their_programs(programs, fields):
    def search(density, rate, **more):
        config = supermask.SearchConfig(**SMALL | fields | {"density": density, "learning_rate": rate} | more)
        return programs(lambda: supermask.search(config))

    first = search(0.5, 0.1)
    assert len(first) >= 4
    assert search(0.3, 0.02) == first
    assert search(0.3, 0.02, batch_size=200) != first


def test_trainings_that_differ_in_their_rate_share_their_programs(programs):
    for schedule in ("cosine", "constant"):
        config = supermask.TrainConfig(**SMALL, schedule=schedule, learning_rate=0.1)
        first = programs(lambda config=config: supermask.train(config))
        assert programs(lambda config=config: supermask.train(config.replace(learning_rate=0.02))) == first
        assert programs(lambda config=config: supermask.train(config.replace(momentum=0.5))) != first
