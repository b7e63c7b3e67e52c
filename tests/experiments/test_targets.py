"""Groups of training examples, and what forgetting does to them, against NumPy."""

from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from helpers import problem_of

import supermask
from supermask.engine.pruned import pruned_training
from supermask.engine.trainer import Trainer
from supermask.experiments import targets
from supermask.experiments.forget import forget
from supermask.experiments.leg import Leg
from supermask.experiments.targets import Network, Probes, Targets, mislabelled, with_wrong_labels
from supermask.masks.ranking import removed_count
from supermask.weights.trained import TrainedWeights

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SMALL = {"arch": "lenet300", "width": 0.1, "epochs": 4, "generations": 1, "batch_size": 64, "devices": 1}


@pytest.fixture(scope="module")
def problem():
    return problem_of(supermask.ForgetConfig(**SMALL))


def logits(problem, weights):
    x = np.asarray(problem.pipeline.normalise(problem.dataset.train.inputs)).reshape(len(problem.dataset.train), -1)
    for name in ("dense1/kernel", "dense2/kernel"):
        x = np.maximum(x @ weights[name], 0)
    return x @ weights["head/kernel"]


def test_a_fraction_of_the_labels_is_wrong_and_only_those(problem):
    noisy = with_wrong_labels(problem, 0.1).dataset
    before, after = problem.dataset.train.targets, noisy.train.targets
    wrong = mislabelled(before, 0.1)
    assert wrong.sum() == round(0.1 * len(before))
    assert np.array_equal(before != after, wrong)
    assert after.dtype == before.dtype
    assert set(after) == set(before)
    shares = np.bincount((after - before)[wrong] % 10, minlength=10)[1:]
    assert shares.min() > 0
    assert noisy.validation is problem.dataset.validation
    assert not mislabelled(np.full(10, -1), 0.5).any()


def test_hard_examples_are_those_with_the_lowest_margins_and_accuracies_are_those_of_groups(tmp_path):
    config = supermask.ForgetConfig(**SMALL | {"probe": True, "label_noise": 0.1, "learning_rate": 0.02})
    [row] = forget(config, run=tmp_path / "run")
    net = TrainedWeights.load(row["weights"])
    problem = with_wrong_labels(problem_of(config), 0.1)
    labels, found = problem.dataset.train.targets, logits(problem, net.weights)
    right = found.argmax(1) == labels
    odds = np.exp(found - found.max(1, keepdims=True))
    first, second = np.sort(odds / odds.sum(1, keepdims=True), axis=1)[:, :-3:-1].T
    hard = np.zeros(len(labels), bool)
    hard[np.argsort(first - second)[: round(0.1 * len(labels))]] = True
    wrong = mislabelled(labels, 0.1)
    groups = {"hard": hard, "easy": ~hard, "wrong label": wrong, "right label": ~wrong}
    assert [(part["probe"], part["group"]) for part in row["probe"]] == [
        (probe, group) for probe in ("random-reset", "largest-rewound") for group in groups
    ]
    for part in row["probe"]:
        group = groups[part["group"]]
        assert part["examples"] == group.sum()
        assert part["before"] == pytest.approx(right[group].mean(), abs=1.5 / group.sum())
        assert 0 <= part["after"] < 1
    assert row["probe"][0]["before"] < row["probe"][1]["before"] - 0.2


@pytest.mark.parametrize("arch", ["lenet300", pytest.param("resnet20", marks=pytest.mark.slow)])
def test_probes_during_a_training_are_those_of_a_training_that_ends_there(tmp_path, arch):
    same = SMALL | {"probe": True, "schedule": "constant", "arch": arch}
    epochs = [supermask.ForgetConfig(**same | {"epochs": n}) for n in (1, 2)]
    [short] = forget(epochs[0], run=tmp_path / "short")
    per_epoch = short["probe"][0]["step"]
    [row] = forget(epochs[1].replace(probe_every=per_epoch), run=tmp_path / "long")
    assert [part["step"] for part in row["probe"]] == [per_epoch] * 4 + [2 * per_epoch] * 4
    assert row["probe"][:4] == short["probe"]
    [alone] = forget(epochs[1], run=tmp_path / "alone")
    assert row["probe"][4:] == alone["probe"]
    assert row["loss"] == alone["loss"]


def test_a_damaged_file_of_probes_is_named(tmp_path):
    chain = SimpleNamespace(session=SimpleNamespace(folder=SimpleNamespace(working=tmp_path)))
    (tmp_path / "probes.json").write_text("{")
    probes = Probes(mock.Mock(spec=Targets, chain=chain, return_value=[[]]))
    with pytest.raises(supermask.SupermaskError, match=r"probes\.json is damaged: .*--force starts over"):
        probes.columns(Leg("generation-01", {"generation": 1}, [], []), [1], (0,), [])


def test_probes_change_copies_alone(problem, monkeypatch):
    copies = []

    def watched(chain, seeds, weights, states):
        copies.append(weights[0])
        return original(chain, seeds, weights, states)

    original = targets.placed
    monkeypatch.setattr(targets, "placed", watched)
    initial, rng = problem.weights(0), np.random.default_rng(0)
    trained = {name: array + rng.standard_normal(array.shape, np.float32) / 10 for name, array in initial.items()}
    before = {name: array.copy() for name, array in trained.items()}
    chain = _Chain(problem, Trainer(problem, pruned_training, problem.side_by_side()))
    Targets(chain, 0.0)((0,), [Network(trained, {})], 1)
    _, random, largest = copies
    for name, array in trained.items():
        assert np.array_equal(array, before[name])
        share = 0.75 if name.startswith("head") else 0.5
        assert (random[name] == array).mean() == pytest.approx(share, abs=5 / np.sqrt(array.size))
        order = np.argsort(np.abs(array), axis=None)
        small, large = np.split(order, [removed_count(array.size, 0.65 if name.startswith("head") else 0.3)])
        assert not largest[name].flat[small].any()
        assert np.array_equal(largest[name].flat[large], initial[name].flat[large])


class _Chain:
    """What a probe needs of a chain."""

    def __init__(self, problem, trainer):
        self.problem, self.trainer = problem, trainer

    def ones(self):
        return {name: np.ones(array.shape, bool) for name, array in self.problem.weights(0).items()}
