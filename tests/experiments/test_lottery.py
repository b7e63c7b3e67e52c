"""Iterative pruning: counts, rewinding, controls, and going on after a stop."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

import supermask
from supermask.engine.trainer import Trainer
from supermask.errors import UsageError
from supermask.experiments.lottery import lottery
from supermask.masks.ranking import removed_count
from supermask.weights.inits import of_config
from supermask.weights.trained import TrainedWeights

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SMALL = {"arch": "lenet300", "width": 0.1, "epochs": 2, "rounds": 2, "batch_size": 64, "devices": 1}


def ran(path, **fields):
    return lottery(supermask.LotteryConfig(**SMALL | fields), run=path / "run")


def branch(rows, name="ticket"):
    return [row for row in rows if row["branch"] == name]


def loaded(rows):
    return [TrainedWeights.load(row["weights"]) for row in rows]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return ran(tmp_path_factory.mktemp("plain"), seeds=2, rounds=3)


def test_there_is_one_result_per_seed_and_round(plain):
    assert sorted((row["round"], row["seed"]) for row in plain) == list(itertools.product(range(4), (0, 1)))
    assert all(0 <= row["test_accuracy"] <= 1 for row in plain)


def test_kept_counts_are_the_iterated_rule_and_masks_are_nested(plain):
    for seed in (0, 1):
        masks = [found.mask for found in loaded([row for row in plain if row["seed"] == seed])]
        assert masks[0] == {}
        alive = {name: mask.size for name, mask in masks[1].items()}
        for earlier, mask in itertools.pairwise(masks):
            for name, kept in mask.items():
                alive[name] -= removed_count(alive[name], 0.9 if name.startswith("head") else 0.8)
                assert kept.sum() == alive[name]
                assert not earlier or (kept <= earlier[name]).all()


def test_what_is_pruned_is_the_smallest_of_what_was_trained(plain):
    dense, first = loaded([row for row in plain if row["seed"] == 0])[:2]
    for name, kept in first.mask.items():
        magnitude = np.abs(dense.weights[name])
        assert magnitude[~kept].max() <= magnitude[kept].min()


def test_results_are_trained_weights_like_others(plain):
    row = plain[-1]
    found = supermask.evaluate(TrainedWeights.load(row["weights"]))
    assert found.reproduced
    assert found.accuracy == row["test_accuracy"]
    assert found.loss == pytest.approx(row["test_loss"])


def test_python_and_run_folder_tell_the_same(plain, tmp_path):
    run = supermask.Run.open(plain[0]["run"])
    assert run.complete
    assert run.results == plain
    assert len(run.weights) == 8
    assert set(run.metrics["round"]) == {0, 1, 2, 3}


@pytest.mark.parametrize("rewind_step", [0, 3])
def test_a_round_goes_back_to_the_weights_of_a_step(tmp_path, monkeypatch, rewind_step):
    starts, init = [], Trainer.init

    def watched(self, seeds, given, **more):
        starts.append((given[0][0], more.get("step", 0)))
        return init(self, seeds, given, **more)

    monkeypatch.setattr(Trainer, "init", watched)
    rows = ran(tmp_path, rewind_step=rewind_step)
    (dense, _), (first, step), (second, _) = starts
    assert step == rewind_step
    masks = [found.mask for found in loaded(rows)][1:]
    for name, kept in masks[1].items():
        assert np.array_equal(second[name], np.where(kept, first[name], 0))
        assert (np.array_equal(first[name], np.where(masks[0][name], dense[name], 0))) == (rewind_step == 0)


def test_going_back_to_a_step_is_going_on_from_there(tmp_path):
    """Without pruning, plain SGD from the kept weights at their step is the dense training itself."""
    rows = ran(tmp_path, keep="1", rewind_step=5, optimizer="sgd", momentum=0.0, learning_rate=0.05)
    dense, first, second = loaded(rows)
    for name, array in dense.weights.items():
        assert np.array_equal(array, first.weights[name])
        assert np.array_equal(array, second.weights[name])


def test_fine_tuning_goes_on_at_the_last_learning_rate(tmp_path):
    """With the whole network kept and a constant rate, it is a longer training with fresh moments."""
    rows = ran(tmp_path, keep="1", rounds=1, retrain="fine-tune", optimizer="sgd", momentum=0.0, schedule="multistep")
    assert [row["epochs"] for row in rows] == [2, 4]
    dense, tuned = loaded(rows)
    moved = max(np.abs(tuned.weights[name] - array).max() for name, array in dense.weights.items())
    assert moved > 0


def test_learning_rate_rewinding_starts_from_the_trained_weights(tmp_path, monkeypatch):
    starts, init = [], Trainer.init

    def watched(self, seeds, given, **more):
        starts.append((given[0][0], more.get("step", 0)))
        return init(self, seeds, given, **more)

    monkeypatch.setattr(Trainer, "init", watched)
    dense, first = loaded(ran(tmp_path, rounds=1, retrain="learning-rate", rewind_step=4))
    start, step = starts[1]
    assert step == 4
    for name, kept in first.mask.items():
        assert np.array_equal(start[name], np.where(kept, dense.weights[name], 0))


def test_one_shot_prunes_the_dense_network_at_once(tmp_path):
    rows = ran(tmp_path, one_shot=True, keep="0.5", rounds=2)
    dense, _, second = loaded(rows)
    for name, kept in second.mask.items():
        magnitude = np.abs(dense.weights[name])
        assert kept.sum() == kept.size - removed_count(kept.size, 0.25)
        assert magnitude[~kept].max() <= magnitude[kept].min()


def test_global_ranking_prunes_layers_together(tmp_path):
    [_, row] = ran(tmp_path, ranking="global", keep="0.5", rounds=1)
    assert row["kept"] == pytest.approx(0.5 * row["kept"] / row["density"], abs=1)
    shares = {layer["density"] for layer in TrainedWeights.load(row["weights"]).layers()}
    assert max(shares) - min(shares) > 0.05


def test_frozen_weights_stay_at_their_values_bit_by_bit(tmp_path):
    config = supermask.LotteryConfig(**SMALL | {"rounds": 1, "control": "freeze-init,freeze-init-zero-mask,zero-start"})
    rows = lottery(config, run=tmp_path / "run")
    dense = loaded(rows)[0]
    drawn = of_config(dense.config, 0, dense.parameters)
    [frozen], [variant], [free] = (loaded(branch(rows, name)) for name in config.branches[1:])
    for name, kept in frozen.mask.items():
        assert np.array_equal(frozen.weights[name][~kept], drawn[name][~kept])
        assert np.isin(variant.weights[name][~kept], [0, *drawn[name][~kept]]).all()
        assert (free.weights[name][~kept] != 0).mean() > 0.5
    assert frozen.filled
    for name, found in zip(config.branches[1:], (frozen, variant, free), strict=True):
        assert supermask.evaluate(found).accuracy == branch(rows, name)[0]["test_accuracy"]


def test_a_ticket_is_given_to_other_seeds(tmp_path):
    rows = ran(tmp_path, rounds=1, transfer="mask,sign,weights", control="layer-shuffle,redraw", rewind_step=2)
    [ticket] = loaded(branch(rows)[1:])
    for name in ("transfer-mask", "transfer-sign", "transfer-weights", "redraw"):
        [found] = loaded(branch(rows, name))
        assert all(np.array_equal(found.mask[key], kept) for key, kept in ticket.mask.items())
    [mixed] = loaded(branch(rows, "layer-shuffle"))
    assert all(mixed.mask[key].sum() == kept.sum() for key, kept in ticket.mask.items())
    assert {row["seed"] for row in rows if row["branch"] == "others"} == {2**31}
    assert branch(rows, "transfer-mask")[0]["to_seed"] == 2**31


def test_a_round_compiles_nothing(tmp_path):
    rows = ran(tmp_path, rounds=3, control="signed-constant")
    seconds = [row["compile_seconds"] for row in rows]
    assert seconds[0] > 0
    assert not any(seconds[1:])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"keep": "conv=0.9"}, "leaves out dense"),
        ({"keep": "conv=2,dense=1,head=1"}, "should give fractions above 0"),
        ({"keep": "layer=0.5"}, "unknown kind of layer"),
        ({"control": "redrawn"}, "unknown control"),
        ({"transfer": "signs"}, "unknown transfer"),
        ({"rounds": -1}, "rounds is -1"),
        ({"retrain": "learning-rate", "kept": "signed-constant"}, "keeps trained weights"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        supermask.LotteryConfig(**fields)


def test_a_step_beyond_the_training_is_refused(tmp_path):
    with pytest.raises(UsageError, match="the training has"):
        ran(tmp_path, rewind_step=10**6)
    assert not (tmp_path / "run").exists()


def test_an_unknown_criterion_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(UsageError, match="unknown criterion"):
        ran(tmp_path, criterion="largest")


def test_the_command_prints_a_table_or_json(tmp_path):
    words = ["lottery", "--arch", "lenet300", "--width", "0.1", "--epochs", "1", "--rounds", "1", "--out", "run"]
    command = [sys.executable, "-m", "supermask", *words]
    table = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert [line.split()[:2] for line in table.splitlines()] == [["round", "branch"], ["0", "dense"], ["1", "ticket"]]
    rows = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert [json.loads(row)["round"] for row in rows.splitlines()] == [0, 1]
