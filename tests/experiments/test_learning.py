"""Every learned method finds a network. That edge-popup does is also seen by a fast test, in test_controls."""

import pytest

import supermask
from supermask import registry

pytestmark = pytest.mark.slow

LEARNED = [name for name in registry.names("methods") if registry.load("methods", name).learned]


RECALL = registry.load("recipes", "zhong2024-recall-a").config | {"density": 0.3, "epochs": 6}


def found(data_dir=None, **fields):
    """On the test examples, by the last epoch's ticket of seed 0."""
    [ticket] = supermask.search(supermask.SearchConfig(**{"arch": "lenet300", **fields}), data_dir=data_dir)
    return supermask.evaluate(ticket, data_dir=data_dir)


@pytest.fixture(scope="module")
def floor():
    return found(method="random").accuracy


SELECTIONS = [
    {"allocation": "erk"},
    {"layer_density": "head/*=1.0"},
    {"pattern": "1:4"},
]


@pytest.mark.parametrize("name", LEARNED)
def test_finds_a_network_in_the_digits(name, floor):
    evaluation = found(method=name, epochs=100)
    assert evaluation.accuracy >= (0.80 if name == "genetic" else 0.90)  # the one that sees no gradient
    assert evaluation.accuracy >= floor + 0.3
    assert evaluation.reproduced


@pytest.mark.parametrize("options", SELECTIONS)
def test_finds_a_network_under_any_allocation(options):
    evaluation = found(density=0.25, epochs=60, options=options)
    assert evaluation.accuracy >= 0.90
    assert evaluation.density == pytest.approx(0.25, abs=1e-4)


@pytest.mark.parametrize(
    ("fields", "least", "densest"),
    [
        ({"epochs": 50}, 0.970, 0.5),
        (registry.load("recipes", "zhou2019-fc-dwr-sc").config | {"epochs": 200}, 0.975, 0.5),
        (
            registry.load("recipes", "koster2022-fc").config | {"options": {"threshold": 0.4, "decay": 3e-4}},
            0.965,
            0.10,
        ),
        (registry.load("recipes", "koster2022-fc-2020").config, 0.965, 0.042),
    ],
    ids=["edge-popup", "bernoulli", "signed", "signed-2020"],
)
def test_finds_a_network_in_mnist(fields, least, densest, real_data):
    fields = {"dataset": "mnist"} | {key: value for key, value in fields.items() if key != "arch"}
    evaluation = found(real_data, **fields)
    assert evaluation.accuracy >= least
    assert evaluation.density <= densest


def test_gem_miner_beats_edge_popup_at_a_twentieth_of_the_weights(real_data):
    sparse = {"dataset": "mnist", "density": 0.05, "epochs": 100}
    mined, popped = (found(real_data, method=name, **sparse).accuracy for name in ("gem-miner", "edge-popup"))
    assert mined >= popped + 0.03


def test_rounds_of_continuous_sparsification_end_in_a_network():
    evaluation = found(method="continuous-sparsification", epochs=40, options={"rounds": 2})
    assert evaluation.accuracy >= 0.80
    assert 0.2 < evaluation.density < 0.8


@pytest.mark.parametrize(("method", "least", "most"), [("edge-popup", 0.95, 1), ("random", 0, 0.18)])
def test_a_mask_alone_recalls_over_a_random_transformer(method, least, most):
    evaluation = found(**RECALL | {"method": method})
    assert least <= evaluation.accuracy <= most
    assert evaluation.floor["context"] == pytest.approx(0.179, abs=1e-3)
