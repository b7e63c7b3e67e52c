"""Forgetting and relearning: what each generation begins with, the long training, and going on after a stop."""

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import problem_of

import supermask
from supermask.engine.layer_order import layers_of
from supermask.engine.trainer import Trainer
from supermask.errors import UsageError
from supermask.experiments.forget import Operator, forget
from supermask.masks.ranking import removed_count
from supermask.weights.trained import TrainedWeights

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SMALL = {"arch": "lenet300", "width": 0.1, "epochs": 2, "generations": 3, "batch_size": 64, "devices": 1}


def ran(path, **fields):
    return forget(supermask.ForgetConfig(**SMALL | fields), run=path / "run")


class Normed(nnx.Module):
    """A dense layer with batch norm, and a head with a bias."""

    def __init__(self, image_shape, classes, rngs):
        self.dense = nnx.Linear(math.prod(image_shape), 16, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.head = nnx.Linear(16, classes, rngs=rngs)

    def __call__(self, x):
        return self.head(jax.nn.relu(self.norm(self.dense(x.reshape(len(x), -1)))))


def small(**fields):
    return problem_of(supermask.ForgetConfig(**SMALL | fields))


@pytest.fixture
def starts(monkeypatch):
    """The weights that each training of the first seed begins with, and its first step."""
    found, init = [], Trainer.init

    def watched(self, seeds, given, **more):
        state = init(self, seeds, given, **more)
        assert state.step == 0
        assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(state.train.optimizer))
        found.append(given[0][0])
        return state

    monkeypatch.setattr(Trainer, "init", watched)
    return found


def loaded(rows):
    return [TrainedWeights.load(row["weights"]) for row in rows]


def test_there_is_one_result_per_seed_and_generation_and_a_long_one(tmp_path):
    rows = ran(tmp_path, seeds=2, long=True)
    found = sorted((row["seed"], row["generation"], row["branch"], row["epochs"]) for row in rows)
    each = [(seed, number, "llf", 2) for seed, number in itertools.product((0, 1), (1, 2, 3))]
    assert found == sorted([*each, (0, 3, "long", 6), (1, 3, "long", 6)])
    run = supermask.Run.open(tmp_path / "run")
    assert run.complete
    assert run.results == rows
    assert type(run.config) is supermask.ForgetConfig
    assert len(run.weights) == 8


def test_the_long_training_is_one_schedule_over_the_whole_budget(tmp_path):
    rows = ran(tmp_path, long=True, generations=2)
    [alone] = loaded(ran(tmp_path / "alone", epochs=4, generations=1))
    [long] = loaded([row for row in rows if row["branch"] == "long"])
    assert long.config == alone.config
    for name, array in alone.weights.items():
        assert np.array_equal(array, long.weights[name])
    assert supermask.evaluate(long).accuracy == rows[-1]["test_accuracy"]


def test_later_layers_are_drawn_anew_in_each_generation(tmp_path, starts):
    rows = ran(tmp_path, layer="dense2")
    nets = loaded(rows)
    for before, start in zip(nets, starts[1:], strict=False):
        assert np.array_equal(start["dense1/kernel"], before.weights["dense1/kernel"])
    for name in ("dense2/kernel", "head/kernel"):
        drawn = [starts[1][name], starts[2][name], nets[0].weights[name], starts[0][name]]
        assert all(abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.3 for a, b in itertools.combinations(drawn[:3], 2))
        assert np.abs(starts[1][name]).max() <= starts[1][name].shape[0] ** -0.5
    assert [row["forgotten"] for row in rows] == [0, *[30 * 10 + 10 * 10] * 2]
    assert "forgotten_train_accuracy" not in rows[0]
    assert all(0 <= row["forgotten_train_accuracy"] <= 1 for row in rows[1:])


def test_new_values_may_come_from_the_init(tmp_path, starts):
    ran(tmp_path, generations=2, layer="head", init="signed-constant", fresh="init")
    values = starts[1]["head/kernel"]
    assert np.allclose(np.abs(values), np.sqrt(2 / 10))
    assert not np.array_equal(values, starts[0]["head/kernel"])


@pytest.mark.parametrize("op", ["kels", "wels"])
def test_knowledge_evolution_keeps_the_same_part_in_each_generation(tmp_path, starts, op):
    rows = ran(tmp_path, op=op, split=0.5, select="best")
    nets = loaded(rows)
    for name, start in starts[0].items():
        same = [starts[i + 1][name] == nets[i].weights[name] for i in range(2)]
        assert np.array_equal(*same)
        for one, two in itertools.combinations((start, starts[1][name], starts[2][name]), 2):
            assert (one != two)[~same[0]].all()
    assert {"slim_val_accuracy", "slim_test_accuracy"} <= rows[0].keys()


def test_the_slim_network_alone_computes_what_the_masked_one_does():
    """Of a convolutional network: the first half of the channels, the pixels of those, the first half of the units."""
    problem = small(arch="conv2", width=0.1, op="kels", split=0.5, image_size=8)
    operator, weights = Operator.of(problem), problem.weights(0)
    masked = {name: weights[name] * operator.slices[name] for name in weights}
    images = problem.pipeline.normalise(problem.dataset.test.inputs[:5])
    outputs, _ = problem.model.apply(masked, {}, images, train=False, key=None)

    x = images
    for name in ("conv1/kernel", "conv2/kernel"):
        kernel = weights[name][..., : x.shape[-1], :3]
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jnp.maximum(x, 0)
    x = x.reshape(5, 4, 2, 4, 2, 3).max((2, 4)).reshape(5, -1)
    dense = weights["dense1/kernel"].reshape(4, 4, 6, 25)[:, :, :3, :13].reshape(-1, 13)
    x = jnp.maximum(x @ dense, 0)
    x = jnp.maximum(x @ weights["dense2/kernel"][:13, :13], 0)
    assert np.allclose(outputs, x @ weights["head/kernel"][:13], atol=1e-5)
    assert np.abs(outputs).max() > 0.1


def test_small_weights_go_back_to_their_start(tmp_path, starts):
    rows = ran(tmp_path, op="rewind", keep=0.4, generations=2)
    [first, _] = loaded(rows)
    for name, start in starts[1].items():
        small_first = np.argsort(np.abs(first.weights[name]), axis=None)
        share = 0.7 if name.startswith("head") else 0.4  # of the head half as many are forgotten
        small, large = np.split(small_first, [removed_count(start.size, share)])
        assert np.array_equal(start.flat[small], starts[0][name].flat[small])
        assert np.array_equal(start.flat[large], first.weights[name].flat[large])


def test_pruning_as_forgetting_rewinds_what_is_kept_and_trains_the_rest_from_zero(tmp_path, starts):
    rows = ran(tmp_path, op="imp", generations=2)
    [first, second] = loaded(rows)
    for name, start in starts[1].items():
        kept = start != 0
        assert np.array_equal(start[kept], starts[0][name][kept])
        magnitude = np.abs(first.weights[name])
        assert magnitude[~kept].max() <= magnitude[kept].min()
        assert (second.weights[name][~kept] != 0).any()
    assert rows[1]["forgotten"] == sum(int((start == 0).sum()) for start in starts[1].values())


@pytest.mark.parametrize(("freeze", "op"), [("kept", "llf"), pytest.param("forgotten", "wels", marks=pytest.mark.slow)])
def test_what_is_held_stays_while_the_rest_is_trained_again(tmp_path, starts, freeze, op):
    rows = ran(tmp_path, op=op, generations=2, freeze=freeze)
    logged = Path(rows[0]["run"], "metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["density"] for line in logged} == {1.0}  # of the network, not of what is trained
    _, second = loaded(rows)
    operator = Operator.of(small(op=op))
    kept = operator.kept(0, 2, second.weights)
    held_somewhere = 0
    for name, start in starts[1].items():
        if name not in kept:  # biases are trained
            continue
        held = kept[name] if freeze == "kept" else ~kept[name]
        assert np.array_equal(second.weights[name][held], start[held])
        assert not held.size or held.all() or (second.weights[name][~held] != start[~held]).mean() > 0.5
        held_somewhere += held.sum()
    assert held_somewhere


@pytest.mark.slow
def test_norms_and_batch_statistics_are_kept(tmp_path, monkeypatch):
    seen, fit = [], Trainer.fit

    def watched(self, state, *args, **more):
        seen.append((jax.device_get(state.train.model_state), jax.device_get(state.train.trainable)))
        return fit(self, state, *args, **more)

    monkeypatch.setattr(Trainer, "fit", watched)
    rows = ran(tmp_path, arch="tests.experiments.test_forget:Normed", width=1.0, generations=2, layer="head")
    (start, _), (before, after) = seen
    first = loaded(rows)[0]
    assert {name for name, array in first.state.items() if np.array_equal(before[name][0], array)} == first.state.keys()
    assert any(not np.array_equal(start[name], before[name]) for name in start)
    reset = [name for name, array in first.weights.items() if not np.array_equal(after[name][0], array)]
    assert reset == ["head/kernel"]


def test_layers_come_in_the_order_in_which_images_meet_them():
    layers = list(layers_of(small(arch="resnet18", width=0.05)))
    assert layers[0] == "conv1/kernel"
    assert layers[-1] == "fc/kernel"
    stages = [name.split("/")[0] for name in layers[1:-1]]
    assert stages == sorted(stages)


def test_a_generation_compiles_nothing(tmp_path):
    seconds = [row["compile_seconds"] for row in ran(tmp_path, op="wels")]
    assert seconds[0] > 0
    assert not any(seconds[1:])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"op": "lth"}, "unknown op"),
        ({"freeze": "all"}, "unknown freeze 'all'"),
        ({"generations": 0}, "generations is 0"),
        ({"op": "kels", "layer": "head"}, "--layer is about llf, not about kels"),
        ({"split": 0.5}, "--split is about kels and wels, not about llf"),
        ({"op": "imp", "fresh": "init"}, "--fresh is about llf and kels and wels, not about imp"),
        ({"probe_every": 100}, "--probe-every is about --probe: add that"),
        ({"probe": True, "probe_every": 0}, "probe_every is 0; it must be at least 1"),
        ({"probe": True, "probe_every": 9, "select": "best"}, "leave out --select best"),
        ({"op": "kels", "split": 1.0}, "split is 1; it must be above 0 and below 1"),
        ({"label_noise": 1.0}, "label_noise is 1; it must be at least 0 and below 1"),
        ({"op": "rewind", "keep": 0}, "keep is 0; it must be above 0 and below 1"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        supermask.ForgetConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layer": "conv1"}, "0 dense1/kernel, 1 dense2/kernel, 2 head/kernel"),
        ({"op": "kels", "arch": "vit-tiny"}, "blocks/0/attn/qkv/kernel .* take --op wels"),
    ],
)
def test_what_the_network_does_not_have_is_refused_before_anything_is_trained(tmp_path, fields, message):
    with pytest.raises(UsageError, match=message):
        ran(tmp_path, **fields)
    assert not (tmp_path / "run").exists()


def test_the_command_prints_a_table_or_json(tmp_path):
    words = ["--arch", "lenet300", "--width", "0.1", "--epochs", "1", "--generations", "2", "--long", "--out", "run"]
    command = [sys.executable, "-m", "supermask", "forget", *words]
    table = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = [line.split()[:3] for line in table.stdout.splitlines()]
    assert lines == [["generation", "branch", "epochs"], ["1", "llf", "1"], ["2", "llf", "1"], ["2", "long", "2"]]
    assert "epoch 2/2" in table.stderr
    rows = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert [json.loads(row)["generation"] for row in rows.splitlines()] == [1, 2, 2]
