"""Searches, trainings and evaluations on sequences of tokens: targets at every token, floors, and what is refused."""

import json
import sys

import numpy as np
import pytest
from helpers import problem_of, watch

import supermask
from supermask.cli import group
from supermask.config.lottery import LotteryConfig
from supermask.engine.evaluator import Evaluator
from supermask.engine.layer_order import layers_of
from supermask.engine.saliency import Saliency
from supermask.errors import BadFileError, UsageError
from supermask.experiments import warnings
from supermask.experiments.lottery import lottery
from supermask.experiments.options import RunOptions
from supermask.experiments.warnings import Chance
from supermask.report.images import first_layer
from supermask.resolve import resolve
from supermask.ticket import Ticket
from supermask.types import Dataset, Split

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SMALL = {"arch": "transformer", "dataset": "modadd:7", "width": 0.1, "epochs": 2, "batch_size": 8}
ONE = {"layers": 1, "heads": 2}


def config(**fields):
    return supermask.SearchConfig(**{**SMALL, "arch_options": ONE, **fields})


@pytest.fixture(scope="module")
def ticket(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    notes = []
    [found] = supermask.search(config(), run=run, callbacks=[watch(note=notes.append)])
    return found, run, notes


@pytest.mark.slow
def test_a_ticket_of_tokens_is_evaluated_to_the_same_accuracy(ticket):
    found, run, notes = ticket
    again = Ticket.load(run / "ticket-s0.safetensors")
    assert again.to_bytes() == found.to_bytes()
    assert again.image_shape == (3,)
    result = supermask.evaluate(again)
    assert result.reproduced
    assert (result.noun, result.examples) == ("sequences", 21)
    assert set(result.floor) == {"uniform", "majority", "swapped"}
    [row] = json.loads((run / "result.json").read_text())["results"]
    assert row["floor"] == supermask.evaluate(again, split="validation").floor
    assert [note for note in notes if note.startswith("floors of validation: swapped 0.")]


def test_floors_are_beside_what_the_commands_print(ticket, capsys, monkeypatch):
    run = ticket[1]
    monkeypatch.chdir(run)
    for words, name in (
        (["eval", "ticket-s0.safetensors"], "test"),
        (["eval", "--json", "ticket-s0.safetensors"], "test"),
    ):
        group.main(words, standalone_mode=False)
        out, err = capsys.readouterr()
        assert f"floors of {name}: swapped 0." in err
        if "--json" in words:
            assert set(json.loads(out)["floor"]) == {"uniform", "majority", "swapped"}
        else:
            assert "modadd:7 test, 21 sequences: accuracy" in out
    words = ["search", "--arch", "transformer", "-a", "layers=1", "-a", "heads=2", "--dataset", "modadd:7"]
    words += ["--width", "0.1", "--epochs", "2", "--batch-size", "8", "--out", str(run)]
    group.main(words, standalone_mode=False)
    out, err = capsys.readouterr()
    assert "is finished" in err
    floors = json.loads((run / "result.json").read_text())["results"][0]["floor"]
    assert out.rstrip().endswith(f"  floor {max(floors.values()):.4f}")


@pytest.mark.slow
def test_floors_are_in_the_rows_of_a_lottery(tmp_path):
    words = LotteryConfig(**SMALL, arch_options=ONE, rounds=1)
    notes = []
    options = RunOptions(tmp_path / "run", callbacks=[watch(note=notes.append)])
    rows = lottery(words, run=options)
    assert [set(row["floor"]) for row in rows] == [{"uniform", "majority", "swapped"}] * 2
    assert [note for note in notes if note.startswith("floors of test: swapped 0.")]


def test_other_tokens_do_not_fit(ticket):
    with pytest.raises(BadFileError, match=r"recall:2 has sequences of 6; those of .* are 3"):
        supermask.evaluate(ticket[0], dataset="recall:2")
    with pytest.raises(BadFileError, match=r"modadd:11 has 12 tokens; .* has 8"):
        supermask.evaluate(ticket[0], dataset="modadd:11")


def test_no_mask_of_tokens_is_an_image(ticket):
    with pytest.raises(BadFileError, match="a is of sequences of tokens"):
        first_layer(ticket[0].mask, ticket[0].image_shape, "a")


def test_a_transformer_is_exported_to_pytorch(ticket):
    from safetensors.numpy import load

    from supermask.exporters.torch import encode

    found, tensors = ticket[0].effective(), load(encode(ticket[0]))
    assert len(tensors) == len(found)
    for name, array in found.items():
        path, _, leaf = name.rpartition("/")
        there = tensors[f"{path.replace('/', '.')}.weight"]
        np.testing.assert_array_equal(there, array.T if leaf == "kernel" else array)


ROWS = {
    "A mask alone": {"maskable": "embeddings"},
    "E random mask and embeddings": {"train": "embeddings", "method": "random"},
}


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_what_a_row_trains(row):
    asked = config(**ROWS[row], optimizer="adam", learning_rate=0.01, weight_decay=0.1)
    [found] = supermask.search(asked)
    assert found.metrics["epochs"] == 2
    first = problem_of(asked)
    before = first.weights(0)
    trained = {n for n, now in found.weights().items() if not np.array_equal(now, before[n])}
    embeddings = {n for n in before if n.startswith("embeddings/")}
    assert trained == (set() if row.startswith("A") else embeddings)
    assert set(found.mask) == (set(before) if row.startswith("A") else set(before) - embeddings)
    assert found.density == pytest.approx(asked.density, abs=1e-3)
    if asked.method == "random":
        [untrained] = supermask.search(asked.replace(train=None, unmasked="embeddings"))
        assert untrained.metrics["epochs"] == 0
        for name, mask in untrained.mask.items():
            np.testing.assert_array_equal(found.mask[name], mask)


def test_training_without_blocks():
    [found] = supermask.train(supermask.TrainConfig(**SMALL, arch_options={"layers": 0}))
    assert (found.metrics["epochs"], found.density, len(found.weights)) == (2, 1, 3)
    assert supermask.evaluate(found).reproduced


def test_epochs_of_a_method_that_is_not_trained_are_for_what_is():
    assert resolve(config(method="magnitude", epochs=5)).epochs == 0
    assert resolve(config(method="magnitude", epochs=5, train="embeddings")).epochs == 5


@pytest.mark.slow
def test_every_answer_is_counted_once(optimised):
    problem = problem_of(config(dataset="induction:4"))
    sharding, rule, split = problem.sharding, supermask.core.weight_training, problem.dataset.test
    weights = problem.weights(0)
    arguments = (sharding.stack_seeds([weights]), sharding.stack_seeds([{}]), sharding.stack_seeds([{}]), [0])
    asked = split.targets >= 0
    one = problem.model.apply(weights, {}, split.inputs, train=False, key=None)[0]
    right = int(((np.asarray(one).argmax(-1) == split.targets) & asked).sum())
    for size in (32, 100):  # the last batch is filled up
        sums = Evaluator(problem, rule, split, sharding, batch_size=size)(*arguments)
        assert int(sums.count[0, 0]) == int(asked.sum())
        assert abs(int(sums.correct[0, 0]) - right) <= 1


@pytest.mark.slow
def test_the_loss_that_methods_look_at_is_the_mean_over_answers():
    problem = problem_of(config(dataset="induction:4", method="snip"))
    weights = problem.weights(0)
    saliency = Saliency(problem)
    chosen, context = saliency(0, weights)
    inputs, targets = saliency._images(0)
    assert targets.shape == inputs.shape == (90, 7)  # ten for each token
    outputs = problem.model.apply(weights, {}, inputs, train=False, key=None)[0]
    sums = problem.task.loss(outputs, targets)
    assert float(context.loss(chosen)) == pytest.approx(float(sums.loss) / int(sums.count), rel=1e-4)
    with pytest.raises(UsageError, match="transformer is asked for its response to an input of ones"):
        context.response(chosen)


def test_synflow_has_no_input_of_ones():
    with pytest.raises(UsageError) as caught:
        supermask.search(config(method="synflow"))
    assert "tokens have no such input" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_probes_of_forgetting_need_images(tmp_path):
    asked = supermask.ForgetConfig(**SMALL, arch_options=ONE, probe=True)
    with pytest.raises(UsageError, match="--probe and --label-noise are about images"):
        supermask.forget(asked, run=tmp_path / "run")


def data(train, validation):
    def split(targets):
        return Split(np.arange(2 * len(targets), dtype=np.int32).reshape(-1, 2), np.array(targets, np.int32))

    return Dataset(split(train), split([0, 1]), tuple("abc"), (), (), split(validation), "next-token")


def test_warnings_speak_of_sequences():
    assert warnings.of_data(data([[0, 1], [1, 0]], [[0, -1], [1, 1]])) == []
    [text, other] = warnings.of_data(data([[1, -1], [-1, 1]], [[0, 1], [2, 1]]))
    assert text == "all 2 training sequences have one answer, b: a network needs at least two to tell apart"
    assert other.startswith("2 of 4 validation answers are tokens that are no answer in a training sequence")
    equal = data([0, 1, 2], [0, 1])
    same = Split(np.zeros((3, 2), np.int32), equal.train.targets)
    [text] = warnings.of_data(Dataset(same, same, tuple("abc"), (), (), equal.validation, "next-token"))
    assert text == "all 3 training sequences are equal: look at how they were made"


def test_an_accuracy_that_a_floor_explains():
    targets = np.array([[0, -1], [1, -1]] * 200, np.int32)
    chance = Chance.of(targets, {"uniform": 0.25, "context": 0.6})
    assert (chance.examples, chance.share) == (400, 0.5)
    assert chance.explains(0.6)
    assert chance.explains(0.64)
    assert not chance.explains(0.66)
    [text] = warnings.of_predictions("test", chance, 0.6)
    assert text.startswith(
        "test accuracy 0.6000 needs no understanding: the floor `context` of 400 answers is 0.6000; try"
    )
    [text] = warnings.of_predictions("test", chance, 0.5, always="b")
    assert "predicts token b for all 400 test answers" in text


NET = """
import jax
from flax import nnx
import numpy as np
from supermask.types import Dataset, Split

class Net(nnx.Module):
    def __init__(self, vocab_size, seq_len, rngs):
        assert (vocab_size, seq_len) == (5, 4)
        self.embed = nnx.Embed(vocab_size, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.head = nnx.Linear(8, vocab_size, rngs=rngs)

    def __call__(self, x):
        return self.head(jax.nn.relu(self.norm(self.embed(x))))

def data(data_dir, argument=""):
    tokens = (np.random.default_rng(0).integers(0, 5, (60, 5))).astype(np.int32)
    parts = [Split(np.ascontiguousarray(part[:, :-1]), part[:, 1:].copy()) for part in (tokens[:40], tokens[40:])]
    return Dataset(*parts, tuple("abcde"), (), (), task="next-token")
"""


@pytest.mark.slow
def test_a_network_and_tokens_of_your_own(tmp_path, monkeypatch):
    (tmp_path / "token_nets.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    notes = []
    asked = config(arch="token_nets:Net", dataset="token_nets:data", width=1.0, arch_options={}, maskable="embed")
    [found] = supermask.search(asked, callbacks=[watch(note=notes.append)])
    sys.modules.pop("token_nets")
    assert set(found.mask) == {"embed/embedding", "head/kernel"}
    assert not [note for note in notes if "outputs" in note or "images" in note]


@pytest.mark.slow
def test_criteria_stand_beside_the_highest_floor(tmp_path):
    asked = supermask.TrainConfig(**{**SMALL, "arch_options": ONE, "epochs": 1})
    supermask.train(asked, run=tmp_path / "run")
    sweep = supermask.CriteriaSweep(criteria=("snip",), densities=(0.5,), values=("initial",))
    found = supermask.compare_criteria(tmp_path / "run", sweep)
    assert [row["criterion"] for row in found.rows] == ["snip"]
    assert found.guess == "the floor `swapped` of the test sequences"
    assert found.chance > 0.3


def test_the_layers_of_a_transformer_are_in_order():
    layers = layers_of(problem_of(config()))
    assert [name.split("/", 2)[-1] for name in layers][-4:] == [
        "attn/proj/kernel",
        "mlp/fc1/kernel",
        "mlp/fc2/kernel",
        "kernel",
    ]
