"""Linear mode connectivity: the line, the barrier, and what no line joins."""

import json
import math
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from helpers import problem_of, random_ticket

import supermask
from supermask.cli import main
from supermask.errors import BadFileError, UsageError
from supermask.experiments.connect import STABLE, Line, connect

pytestmark = pytest.mark.usefixtures("compiled_quickly")

CONFIG = supermask.TrainConfig(arch="lenet300", width=0.1, epochs=4, seeds=2)


class Normed(nnx.Module):
    """One hidden layer and batch norm."""

    def __init__(self, image_shape, classes, rngs):
        self.dense = nnx.Linear(math.prod(image_shape), 16, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(16, use_bias=False, use_scale=False, rngs=rngs)
        self.head = nnx.Linear(16, classes, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.norm(self.dense(x.reshape(len(x), -1)))))


@pytest.fixture(scope="module")
def pair():
    return supermask.train(CONFIG)


def permuted(found):
    """The same function of images, its hidden units in another order."""
    order = np.random.default_rng(0).permutation(found.weights["dense1/kernel"].shape[1])
    moved = {
        "dense1/kernel": found.weights["dense1/kernel"][:, order],
        "dense2/kernel": found.weights["dense2/kernel"][order],
    }
    return replace(found, weights=found.weights | moved)


def test_the_line_is_that_of_numpy(pair):
    a, b = pair
    problem = problem_of(CONFIG)
    split = problem.dataset.validation
    pixels = np.asarray(problem.pipeline.normalise(split.inputs)).reshape(len(split), -1)
    found = connect(a, b, points=5)
    for row, alpha in zip(found.points, (0, 0.25, 0.5, 0.75, 1), strict=True):
        hidden = pixels
        for name in ("dense1/kernel", "dense2/kernel", "head/kernel"):
            hidden = np.maximum(hidden, 0) if name != "dense1/kernel" else hidden
            hidden = hidden @ ((1 - alpha) * a.weights[name] + alpha * b.weights[name])
        shifted = hidden - hidden.max(1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(split)), split.targets]
        assert row["alpha"] == alpha
        assert row["accuracy"] == pytest.approx((hidden.argmax(1) == split.targets).mean())
        assert row["loss"] == pytest.approx(losses.mean(), rel=1e-4)
    errors = [row["error"] for row in found.points]
    assert found.error_barrier == max(errors) - (errors[0] + errors[-1]) / 2
    assert found.points[0]["accuracy"] == a.metrics["val_accuracy"]
    assert found.points[-1]["accuracy"] == b.metrics["val_accuracy"]


def test_a_run_and_itself_have_no_barrier_and_a_permuted_copy_has_one(pair):
    same = connect(pair[0], pair[0])
    assert len({row["loss"] for row in same.points}) == 1
    assert (same.error_barrier, same.loss_barrier, same.stable) == (0, 0, True)
    other = connect(pair[0], permuted(pair[0]))
    assert other.points[0]["error"] == other.points[-1]["error"]
    assert other.error_barrier > STABLE
    assert other.loss_barrier > 0
    assert not other.stable


def test_batch_statistics_are_those_of_each_point():
    config = supermask.TrainConfig(arch=f"{__name__}:Normed", epochs=1)
    [a] = supermask.train(config)
    stale = replace(a, state={name: array + 5 for name, array in a.state.items()})
    found, same = connect(stale, stale, points=3), connect(a, a, points=3)
    assert found.error_barrier == 0
    for row, other in zip(found.points, same.points, strict=True):
        assert row["accuracy"] == other["accuracy"] == a.metrics["val_accuracy"]  # those in the file have no say


def test_what_no_line_joins_is_named(pair):
    a, b = pair
    with pytest.raises(BadFileError, match=r"differ, so no line joins them: width 0.1 and 0.2"):
        connect(a, replace(b, config=b.config.replace(width=0.2)))
    other = dict.fromkeys(b.content, "other 00")
    with pytest.raises(BadFileError, match=r"no line joins them: .* there, .* here"):
        connect(a, replace(b, content=other))
    with pytest.raises(UsageError, match="points is 2"):
        connect(a, b, points=2)
    mask = {"head/kernel": np.ones(b.shapes["head/kernel"], bool)}
    mask["head/kernel"][:3] = False
    with pytest.raises(BadFileError, match="differ in 30 weights; --effective"):
        connect(a, replace(b, mask=mask))
    found = connect(a, replace(b, mask=mask), points=3, effective=True)
    assert found.notes[-1].startswith("note: the masks of")


def call(capsys, *words):
    """(exit code, what it printed, stderr) of the command."""
    with pytest.raises(SystemExit) as end:
        main(["connect", *map(str, words)])
    return end.value.code or 0, *capsys.readouterr()


def test_the_command(pair, tmp_path, capsys):
    paths = [found.save(tmp_path / f"{i}.safetensors") for i, found in enumerate(pair)]
    code, out, _ = call(capsys, *paths, "--points", 3, "--json")
    assert code == 0
    *rows, last = map(json.loads, out.splitlines())
    expected = connect(*pair, points=3)
    assert [row["accuracy"] for row in rows] == [row["accuracy"] for row in expected.points]
    assert (last["error_barrier"], last["stable"]) == (expected.error_barrier, expected.stable)
    code, _, err = call(capsys, paths[0])
    assert (code, "is one file; a line needs two" in err) == (2, True)


def test_all_pairs_of_a_run_are_joined_and_drawn(tmp_path, capsys, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure")
    seen, save = [], figure.Figure.savefig
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, *a, **k: (seen.append(self), save(self, *a, **k)))
    supermask.train(CONFIG.replace(seeds=3, epochs=1), run=tmp_path / "run")
    code, out, err = call(capsys, tmp_path / "run", "--points", 3, "--json", "--plot", tmp_path / "a.png")
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    names = ["weights-s0 to run/weights-s1", "weights-s0 to run/weights-s2", "weights-s1 to run/weights-s2"]
    assert [f"{Path(row['a']).stem} to run/{Path(row['b']).stem}" for row in rows if "stable" in row] == names
    lines = [line for line in seen[0].axes[0].lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in lines] == [f"run/{name}" for name in names]
    errors = [row["error"] for row in rows if "alpha" in row]
    np.testing.assert_allclose(np.concatenate([line.get_ydata() for line in lines]), errors)
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_a_second_line_compiles_nothing(pair):
    a, b = (found.effective() for found in pair)
    line, compiled = Line(problem_of(CONFIG), points=3), []
    line(a, b)
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **more: compiled.append(name) if "backend_compile" in name else None
    )
    try:
        line(b, permuted(pair[0]).effective())
    finally:
        jax.monitoring.clear_event_listeners()
    assert compiled == []


@pytest.mark.parametrize("two", [True, False], ids=["A B", "RUN"])
def test_what_is_no_training_is_told_what_would_be(pair, tmp_path, two, capsys):
    ticket, _ = random_ticket("lenet300", (8, 8, 1), width=0.1)
    replace(ticket, metrics={"val_accuracy": 0.5}).save(tmp_path / "ticket.safetensors")
    (tmp_path / "text").write_text("no weights")
    (tmp_path / "empty").mkdir()
    good = pair[0].save(tmp_path / "good.safetensors")
    wrong = ("nothing", "text", "empty", "ticket.safetensors") if two else ("nothing",)
    for name in wrong:
        code, _, err = call(capsys, *([good] if two else []), tmp_path / name)
        assert code == 3, name
        assert name in err
        assert "of `supermask train`" in err
