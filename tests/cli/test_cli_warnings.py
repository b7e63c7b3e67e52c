"""Warnings about results: on stderr whatever `-q` says, and in the JSON of every command that shows the result."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import pytest

from supermask import Run
from supermask.cli import main

pytestmark = pytest.mark.usefixtures("compiled_quickly")

EMPTY = "the mask keeps no weight of dense2/kernel, head/kernel,"
SEARCH = ("search", "--arch", "lenet300", "--epochs", "1", "--density", "0.001", "-o", "allocation=global", "--json")


def call(*words):
    """The one object on stdout, and the lines on stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    assert not stop.value.code, err.getvalue()
    [row] = map(json.loads, out.getvalue().splitlines())
    return row, err.getvalue().splitlines()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A search whose mask leaves layers empty: (its folder, result row, stderr)."""
    folder = tmp_path_factory.mktemp("empty")
    with contextlib.chdir(folder):
        return folder, *call(*SEARCH, "-q", "--out", "run")


@pytest.fixture
def here(found, monkeypatch):
    monkeypatch.chdir(found[0])


def test_search(found, here):
    _, row, lines = found
    empty, constant = row["warnings"]
    assert empty.startswith(EMPTY)
    assert constant.startswith("the network predicts class 0 for all 144 validation images")
    assert lines == [f"warning: seed 0: {text}" for text in row["warnings"]]
    assert Run.open("run").results == [row]


def test_a_finished_search_says_it_again(found, here):
    _, row, lines = found
    assert call(*SEARCH, "-q", "--out", "run") == (row, lines)


def test_a_dry_run_warns_of_nothing(here):
    assert call(*SEARCH, "--dry-run")[1] == []


def test_eval(found, here):
    row, lines = call("eval", found[1]["ticket"], "-q", "--json")
    empty, constant = row["warnings"]
    assert empty.startswith(EMPTY)
    assert "class 0 for all 360 test images" in constant
    assert lines == [f"warning: {text}" for text in row["warnings"]]


def test_eval_does_not_judge_the_accuracy_under_a_control(found, here):
    row, _ = call("eval", found[1]["ticket"], "-q", "--json", "--control", "shuffled")
    [empty] = row["warnings"]
    assert empty.startswith(EMPTY)


def test_inspect(found, here):
    row, lines = call("inspect", found[1]["ticket"], "--json")
    assert row["warnings"] == found[1]["warnings"][:1]
    assert lines == [f"warning: {text}" for text in row["warnings"]]


def test_train_under_a_mask_that_leaves_layers_empty(found, here):
    row, lines = call("train", "--ticket", found[1]["ticket"], "--epochs", "1", "-q", "--json")
    assert row["warnings"][0].startswith(EMPTY)
    assert lines[0].startswith(f"warning: seed 0: {EMPTY}")


def test_rows_of_earlier_versions_have_no_warnings(found, here, tmp_path):
    run = shutil.copytree("run", tmp_path / "old")
    result = json.loads((run / "result.json").read_text())
    [row] = result["results"]
    del row["warnings"]
    (run / "result.json").write_text(json.dumps(result))
    assert Run.open(run).results[0]["warnings"] == []
    assert call(*SEARCH, "-q", "--out", run)[0]["warnings"] == []
    assert Path(run, "result.json").read_text() == json.dumps(result)
