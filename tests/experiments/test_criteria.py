"""Masks on initial weights: every number of a row against NumPy, what chooses a density, and what is refused."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers import problem_of

import supermask
from supermask.cli import main
from supermask.criteria._criterion import make
from supermask.errors import BadFileError, UsageError
from supermask.experiments.comparison import Comparison
from supermask.experiments.diagnostics import BINS, alignment, moving_to_zero, of_layers
from supermask.experiments.one_shot import Ranked, random_like, signed_constants
from supermask.masks.ranking import removed_count
from supermask.runs import checkpoints

pytestmark = pytest.mark.usefixtures("compiled_quickly")

CONFIG = supermask.TrainConfig(arch="lenet300", width=0.5, epochs=10, seeds=2, init="glorot-normal")
SWEEP = {"criteria": ("large_final_same_sign", "random", "snip"), "densities": (0.5, 0.25)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "dense"
    supermask.train(CONFIG, run=path)
    return path


@pytest.fixture(scope="module")
def problem():
    return problem_of(CONFIG)


@pytest.fixture(scope="module")
def found(run):
    sweep = supermask.CriteriaSweep(**SWEEP, values=("initial", "signed-constant", "final"), diagnostics=True)
    return supermask.compare_criteria(run, sweep)


def outputs(problem, weights, split):
    """LeNet in NumPy."""
    dataset = problem.dataset
    x = (split.inputs / 255 - np.array(dataset.mean)) / np.array(dataset.std)
    x = x.reshape(len(x), -1)
    for name in ("dense1", "dense2"):
        x = np.maximum(x @ weights[f"{name}/kernel"].astype(float), 0)
    return x @ weights["head/kernel"].astype(float)


def scored(problem, weights, split):
    logits = outputs(problem, weights, split)
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return (logits.argmax(1) == split.targets).mean(), -log_p[np.arange(len(split)), split.targets].mean()


def test_every_number_is_that_of_mask_times_weights(run, problem, found):
    by_key = {(row["criterion"], row["values"], row["density"], row["seed"]): row for row in found.rows}
    assert len(by_key) == len(found.rows) == 3 * 3 * 2 * 2
    for seed, network in enumerate(supermask.Run.open(run).weights):
        initial = problem.weights(seed)
        same = {name: np.sign(array) == np.sign(network.weights[name]) for name, array in initial.items()}
        mask = {}
        for name, array in initial.items():  # fewer signs changed than are pruned, so there are no ties
            score = np.where(same[name], np.abs(network.weights[name]), 0).ravel()
            places = np.argsort(score)[removed_count(array.size, 0.5) :]
            assert (score[places] > 0).all()
            mask[name] = np.isin(np.arange(array.size), places).reshape(array.shape)
        density = sum(m.sum() for m in mask.values()) / sum(m.size for m in mask.values())
        constant = {name: np.sign(array) * np.std(array.astype(float)) for name, array in initial.items()}
        for values, weights in (("initial", initial), ("signed-constant", constant), ("final", network.weights)):
            row = by_key["large-final-same-sign", values, density, seed]
            masked = {name: array * mask[name] for name, array in weights.items()}
            for split, images in (("val", problem.dataset.validation), ("test", problem.dataset.test)):
                accuracy, loss = scored(problem, masked, images)
                assert row[f"{split}_accuracy"] == pytest.approx(accuracy, abs=1e-6)
                assert row[f"{split}_loss"] == pytest.approx(loss, rel=1e-4)


def test_the_whole_trained_network_scores_what_its_training_recorded(run):
    sweep = supermask.CriteriaSweep(("random",), densities=(1.0,), values=("final",))
    rows = supermask.compare_criteria(run, sweep).rows
    assert [row["val_accuracy"] for row in rows] == [w.metrics["val_accuracy"] for w in supermask.Run.open(run).weights]


@pytest.mark.slow
def test_batch_statistics_are_those_of_the_masked_network(tmp_path):
    """Those of the dense network belong to other inputs of each norm."""
    config = supermask.TrainConfig(arch="tests.engine.test_batch_statistics:Normed", epochs=2)
    supermask.train(config, run=tmp_path / "run")
    sweep = supermask.CriteriaSweep(("large-final",), densities=(1.0, 0.5), values=("final",))
    whole, half = supermask.compare_criteria(tmp_path / "run", sweep).rows
    [network] = supermask.Run.open(tmp_path / "run").weights
    assert whole["val_accuracy"] == network.metrics["val_accuracy"]  # its statistics were estimated in the same way
    assert half["val_loss"] != whole["val_loss"]


def test_a_sign_that_stayed_tells_more_than_chance(found):
    best = {(row["criterion"], row["values"]): row for row in found.best()}
    for values in ("initial", "signed-constant"):
        assert best["large-final-same-sign", values]["test_accuracy"] > best["random", values]["test_accuracy"] + 0.1
    assert 0.09 < found.chance < 0.12


def test_snip_is_gradient_times_weight_by_finite_differences(problem):
    from supermask.engine.saliency import Saliency

    weights = problem.weights(0)
    slope = Saliency(problem).gradient(0, weights)
    order = np.argsort(np.random.Philox(key=0).random_raw(len(problem.dataset.train)), kind="stable")[:100]
    batch = supermask.Split(problem.dataset.train.inputs[order], problem.dataset.train.targets[order])
    for name, place in (("dense1/kernel", (30, 7)), ("dense2/kernel", (3, 4)), ("head/kernel", (5, 6))):
        losses = []
        for step in (1e-3, -1e-3):
            moved = {key: array.astype(float) for key, array in weights.items()}
            moved[name][place] += step
            losses.append(scored(problem, moved, batch)[1])
        assert slope[name][place] == pytest.approx((losses[0] - losses[1]) / 2e-3, rel=1e-3, abs=1e-6)
    assert make("snip").needs_gradient


def test_validation_accuracy_chooses_and_test_accuracy_never():
    def row(number, seed, val, test):
        named = {"criterion": "random", "values": "initial", "round": number, "density": 0.8**number, "seed": seed}
        return {**named, "val_accuracy": val, "test_accuracy": test}

    rows = [row(0, 0, 0.5, 0.9), row(1, 0, 0.6, 0.2), row(0, 1, 0.5, 0.9), row(1, 1, 0.6, 0.4)]
    [best] = Comparison(rows, 0.1).best()
    assert (best["round"], best["seeds"], best["val_accuracy"]) == (1, 2, 0.6)
    assert best["test_accuracy"] == pytest.approx(0.3)
    assert best["test_accuracy_std"] == pytest.approx(0.1)


def test_rounds_are_powers_and_their_masks_nested():
    random = np.random.default_rng(0)
    before, after = ({"a": random.normal(size=(30, 20)), "b": random.normal(size=(20, 5))} for _ in range(2))
    ranked = Ranked(make("large-final"), before, after, None, "0")
    masks = list(ranked.masks({"a": 0.8, "b": 0.9}, 5, ()))
    assert [number for number, _ in masks] == [0, 1, 2, 3, 4, 5]
    assert all(array.all() for array in masks[0][1].values())
    for (_, wider), (number, mask) in pairwise(masks):
        assert mask["a"].sum() == 600 - removed_count(600, 0.8**number)
        assert mask["b"].sum() == 100 - removed_count(100, 0.9**number)
        assert not any((mask[name] & ~wider[name]).any() for name in mask)
    single = Ranked(make("large-final-same-sign-single"), before, after, None, "0")
    [(number, mask)] = single.masks({"a": 0.8, "b": 0.9}, 5, (0.5,))
    assert number is None
    np.testing.assert_array_equal(mask["a"], np.sign(before["a"]) == np.sign(after["a"]))
    other = random_like(mask, 0)
    assert {name: array.sum() for name, array in other.items()} == {name: array.sum() for name, array in mask.items()}
    assert (other["a"] != mask["a"]).any()


def test_signed_constants_are_plus_minus_one_deviation_and_zero():
    array = np.array([[0.0, 2.0], [-1.0, 3.0]], np.float32)
    found = signed_constants({"a": array})["a"]
    np.testing.assert_allclose(found, np.std(array) * np.array([[0, 1], [-1, 1]]), rtol=1e-6)
    assert found.dtype == np.float32


def test_diagnostics_are_their_formulas():
    before, after = {"a": np.array([1.0, -2, 3, 4])}, {"a": np.array([0.5, -3, -1, 4.5])}
    mask = {"a": np.array([False, False, True, True])}
    assert moving_to_zero(before, after, mask) == (0.5, 0.5)
    step, training = np.array([-1.0, 2, 0, 0]), np.array([-0.5, -1, -4, 0.5])
    cosine = step @ training / np.linalg.norm(step) / np.linalg.norm(training)
    assert alignment(before, after, mask) == pytest.approx(cosine)
    everything = {"a": np.ones(4, bool)}
    assert moving_to_zero(before, after, everything) == (None, 0.5)
    assert alignment(before, after, everything) is None
    [row] = of_layers(before, after)
    counts = np.array(row["histogram"])
    assert (row["layer"], row["sign_flips"], row["limit"]) == ("a", 0.25, 4.5)
    assert (counts.shape, counts.sum()) == ((BINS, BINS), 4)
    assert counts[int((3 + 4.5) / 9 * BINS), int((-1 + 4.5) / 9 * BINS)] == 1


def test_pruned_weights_were_moving_to_zero(found):
    for row in found.masks:
        if row["criterion"] == "large-final-same-sign":
            assert row["pruned_moving_to_zero"] > row["all_moving_to_zero"]
            assert row["alignment"] > 0
            assert row["val_loss"] < row["random_val_loss"]
    assert [(row["seed"], row["layer"]) for row in found.layers[:3]] == [
        (0, "dense1/kernel"),
        (0, "dense2/kernel"),
        (0, "head/kernel"),
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"criteria": ("large-finale",)}, "unknown criterion 'large-finale': did you mean large-final"),
        ({"values": ("inital",)}, "unknown values 'inital': did you mean initial"),
        ({"keep": {"fc": 0.8}}, "unknown kind of layer 'fc'"),
        ({"keep": {"conv": 1.2}}, "conv is to keep 1.2; it must be above 0 and at most 1"),
        ({"densities": (0.5, 0.0)}, "a density is to keep 0; it must be above 0 and at most 1"),
        ({"rounds": -1}, "rounds is -1; it must be 0 or more"),
    ],
)
def test_a_sweep_that_means_nothing_is_refused(fields, message):
    with pytest.raises(UsageError) as caught:
        supermask.CriteriaSweep(**fields)
    assert message in str(caught.value)


def test_only_a_finished_dense_training_will_do(run, tmp_path):
    path = Path(__file__).parent.parent / "golden" / "format1-random.safetensors"
    network = supermask.Run.open(run).weights[0]
    masked = tmp_path / "masked.safetensors"
    mask = {name: array > 0 for name, array in network.weights.items()}
    replace(network, mask=mask).save(masked)
    for there, message in ((path, "is a search, which trains no weights"), (masked, "under the mask of a ticket")):
        with pytest.raises(BadFileError, match=message):
            supermask.compare_criteria(there)
    (tmp_path / "text").write_text("no weights")
    checkpoint = checkpoints.save(tmp_path, 1, {"n": 1}, {"state": np.zeros(5, np.float32)})
    for there in (tmp_path / "nothing", tmp_path / "text", checkpoint):
        words = rf"{there.name}.*; it should be the run folder, or a weights file, of a dense `supermask train`"
        with pytest.raises(BadFileError, match=words):
            supermask.compare_criteria(there)


def test_the_pictures(run, tmp_path, capsys, monkeypatch):
    """Test accuracy by density, a panel for each kind of values and chance in it; and where weights began and ended."""
    figure = pytest.importorskip("matplotlib.figure")
    seen, save = [], figure.Figure.savefig
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, *a, **k: (seen.append(self), save(self, *a, **k)))
    words = ["criteria", str(run), "--criterion", "large-final,random", "--densities", "0.5,0.25", "-q", "--json"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--plot", str(tmp_path / "a.png"), "--plot-weights", str(tmp_path / "b.svg")])
    out, err = capsys.readouterr()
    assert (end.value.code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    curves, layers = seen
    assert [axes.get_title() for axes in curves.axes] == ["initial", "signed-constant"]
    for axes in curves.axes:
        lines = {line.get_label(): line.get_ydata() for line in axes.lines}
        assert lines.keys() == {"large-final", "random", "chance"}
        of = [r for r in rows if (r.get("criterion"), r.get("values")) == ("random", axes.get_title())]
        means = [
            np.mean([r["test_accuracy"] for r in of if r["density"] == d]) for d in sorted({r["density"] for r in of})
        ]
        np.testing.assert_allclose(lines["random"], means)
    names = [f"seed {row['seed']}, {row['layer']}" for row in rows if "layer" in row]
    assert len(names) == 2 * 3
    assert [axes.get_title().rsplit(" (", 1)[0] for axes in layers.axes] == names
    with pytest.raises(SystemExit) as end:
        main([*words, "--plot", str(tmp_path / "a.png"), "--plot-weights", str(tmp_path / "a.png")])
    assert (end.value.code, "give them two files" in capsys.readouterr().err) == (2, True)


def test_the_command_prints_rows_or_a_table(run, found, capsys):
    words = ["criteria", str(run), "--criterion", "large_final_same_sign,random,snip", "--densities", "0.5,0.25"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--json", "--diagnostics", "-q"])
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert (end.value.code, err) == (0, "")
    of_initial = [row for row in found.rows if row["values"] != "final"]
    assert rows[: len(of_initial)] == of_initial
    assert rows[len(of_initial) :] == [*found.masks, *found.layers]
    with pytest.raises(SystemExit) as end:
        main([*words[:4], "--rounds", "2"])
    out, err = capsys.readouterr()
    assert end.value.code == 0
    assert out.splitlines()[0].split()[:3] == ["criterion", "values", "round"]
    assert f"Chance: {found.chance:.4f}" in out
    assert "head/kernel is taken as the head" in err
    assert "seed 1  3/3  snip" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--densities", "0.5", "--rounds", "3"], "leave out --keep and --rounds"),
        (["--densities", "half"], "--densities has half; all of these must be numbers"),
        (["--keep", "conv"], "--keep 'conv' is not of the form key=value"),
    ],
)
def test_words_that_contradict_each_other_are_refused(words, message, run, capsys):
    with pytest.raises(SystemExit) as end:
        main(["criteria", str(run), *words])
    assert (end.value.code, message in capsys.readouterr().err) == (2, True)
