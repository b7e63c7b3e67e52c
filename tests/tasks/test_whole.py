"""Answers of several tokens, counted as a whole, against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

import supermask
from supermask.cli import group
from supermask.experiments.evaluate import problem_of
from supermask.tasks._whole import WholeAnswers, has_answers
from supermask.types import Split

pytestmark = pytest.mark.usefixtures("compiled_quickly")

RANDOM = np.random.default_rng(0)


def test_a_sequence_is_right_if_all_of_its_tokens_are():
    outputs = RANDOM.normal(size=(200, 3, 4)).astype(np.float32)
    targets = RANDOM.integers(-1, 4, (200, 3)).astype(np.int32)
    targets[:60] = np.where(targets[:60] >= 0, outputs[:60].argmax(-1), -1)
    targets[:5] = -1  # nothing is asked for: such a sequence does not count
    right = count = 0
    for logits, wanted in zip(outputs, targets, strict=True):
        asked = [(row.argmax(), token) for row, token in zip(logits, wanted, strict=True) if token >= 0]
        count += bool(asked)
        right += bool(asked) and all(found == token for found, token in asked)
    found = WholeAnswers().loss(jnp.asarray(outputs), jnp.asarray(targets))
    assert (int(found.correct), int(found.count), float(found.loss)) == (right, count, 0.0)
    assert 50 < right < count < 200


@pytest.mark.parametrize(
    ("targets", "several"),
    [
        ([[-1, 2, 3], [-1, 1, -1]], True),
        ([[-1, -1, 3], [-1, -1, 0]], False),  # one token is the answer
        ([[0, 2, 3], [1, 1, 2]], False),  # text
        ([2, 3], False),
    ],
)
def test_only_answers_of_several_tokens_are_counted_as_a_whole(targets, several):
    targets = np.array(targets, np.int32)
    assert has_answers(Split(np.zeros((2, 3), np.int32), targets)) is several


def test_evaluation_has_both_accuracies(tmp_path, capsys):
    config = supermask.TrainConfig(arch="transformer", dataset="addition:2", width=0.5, epochs=6, batch_size=64)
    [trained] = supermask.train(config.replace(arch_options={"layers": 1}, optimizer="adam", learning_rate=3e-3))
    found = supermask.evaluate(trained)
    problem, _ = problem_of(trained, None, None)
    outputs, _ = problem.model.apply(
        {name: jnp.asarray(w) for name, w in trained.weights.items()},
        {name: jnp.asarray(a) for name, a in trained.state.items()},
        jnp.asarray(problem.dataset.test.inputs),
        train=False,
        key=None,
    )
    targets = problem.dataset.test.targets
    right = (np.asarray(outputs).argmax(-1) == targets) | (targets < 0)
    assert found.sequence_accuracy == pytest.approx(right.all(1).mean(), abs=2e-3)
    assert 0.01 < found.sequence_accuracy < found.accuracy < 1
    path = trained.save(tmp_path / "weights.safetensors")
    for words, said in (((), f"whole answers {found.sequence_accuracy:.4f}"), (("--json",), '"sequence_accuracy": ')):
        group.main(args=["eval", str(path), *words], standalone_mode=False)
        assert said in capsys.readouterr().out
