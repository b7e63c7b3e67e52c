"""The command line as its user meets it: words in; stdout, stderr, exit code and files out."""

import contextlib
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

import click
import numpy as np
import pytest
from helpers import open_run
from safetensors.numpy import load_file

import supermask
from supermask import registry
from supermask.cli import group, main
from supermask.config import SearchConfig
from supermask.config.files import OPTIONAL
from supermask.runs.index import default_path, finished, read_config
from supermask.ticket import Ticket

pytestmark = pytest.mark.usefixtures("compiled_quickly")

ROOT = Path(__file__).parents[2]
SEARCH = ("search", "--arch", "lenet300", "--epochs", "2")
COMMANDS = group.list_commands(click.Context(group))
SEARCH_KEYS = (
    *("ticket", "run", "arch", "dataset", "method", "init", "seed", "density", "epochs", "loss", "train_accuracy"),
    *("val_accuracy", "images_per_second", "compile_seconds", "train_seconds", "ticket_bytes", "bits_per_parameter"),
    *("device", "warnings"),
)
EVAL_KEYS = ("ticket", "dataset", "split", "examples", "accuracy", "loss", "density", "layers", "warnings")
LAYER_KEYS = ("name", "shape", "kept", "total", "density")
INSPECT_KEYS = (
    *("ticket", "bytes", "mask", "density", "bits_per_parameter", "config", "image_shape", "metrics", "layers"),
    *("parameters", "versions", "warnings"),
)


@dataclass
class Answer:
    """What one call gave."""

    code: int
    out: str
    err: str

    def json(self):
        """The objects on stdout, which must hold nothing else."""
        return [json.loads(line) for line in self.out.splitlines()]

    def refused(self, code):
        """The one line of a call that failed as it should."""
        assert self.code == code, (self.code, self.err)
        assert self.out == ""
        assert "Traceback" not in self.err
        [line] = self.err.splitlines()
        assert line.startswith("supermask: ")
        return line


def call(*words):
    out, err, path = io.StringIO(), io.StringIO(), list(sys.path)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main([str(word) for word in words])
    except SystemExit as stop:
        return Answer(stop.code or 0, out.getvalue(), err.getvalue())
    finally:
        sys.path[:] = path
    raise AssertionError("main returned; it should exit")


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test works in an empty folder, without a user's SUPERMASK_ variables."""
    for name in list(os.environ):
        if name.startswith("SUPERMASK_") and name != "SUPERMASK_OFFLINE":
            monkeypatch.delenv(name)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@dataclass
class Run:
    """The one search that most tests look at: made once, never changed."""

    folder: Path
    answer: Answer
    row: dict

    @property
    def path(self):
        return self.folder / self.row["run"]

    @property
    def ticket(self):
        return self.folder / self.row["ticket"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with contextlib.chdir(folder):
        answer = call(*SEARCH, "--json")
    assert answer.code == 0, answer.err
    [row] = answer.json()
    return Run(folder, answer, row)


@pytest.fixture
def ticket(run, here):
    """A copy of the ticket, to be damaged or exported."""
    return Path(shutil.copy(run.ticket, here / "t.safetensors")).relative_to(here)


# search


def test_search_json(run):
    row = run.row
    assert tuple(row) == SEARCH_KEYS
    assert (row["arch"], row["dataset"], row["method"]) == ("lenet300", "digits", "edge-popup")
    assert (row["init"], row["seed"], row["epochs"], row["density"]) == ("signed-constant", 0, 2, 0.5)
    for name in ("train_accuracy", "val_accuracy"):
        assert 0.3 < row[name] <= 1
    for name in ("loss", "images_per_second", "train_seconds"):
        assert 0 < row[name] < float("inf")
    assert row["compile_seconds"] >= 0
    assert row["ticket_bytes"] == run.ticket.stat().st_size
    assert isinstance(row["device"], str)


def test_search_progress_goes_to_stderr(run):
    lines = run.answer.err.splitlines()
    words = ("run folder", "epoch 1/2", "epoch 2/2", "compiling")
    assert [word in line for word, line in zip(words, lines, strict=True)] == [True] * 4
    for word in ("loss", "val", "density", "images/s"):
        assert word in lines[1]
    assert "\x1b" not in run.answer.err


def test_search_writes_a_whole_run_folder(run):
    assert sorted(snapshot(run.path)) == [
        "config.json",
        "content.json",
        "metrics.jsonl",
        "result.json",
        "ticket-s0.safetensors",
    ]
    assert [item.name for item in run.path.parent.iterdir()] == [run.path.name]
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[-1]["val_accuracy"] == run.row["val_accuracy"]
    ticket = Ticket.load(run.ticket)
    assert ticket.metrics["val_accuracy"] == run.row["val_accuracy"]
    config = SearchConfig.from_dict(read_config(run.path / "config.json"))
    assert ticket.config == config
    still_open = {name for name, value in config.to_dict().items() if value is None}
    assert still_open == {"image_size", "micro_batch", "maskable", "unmasked", "train"}


def test_same_command_answers_at_once(run, monkeypatch):
    monkeypatch.chdir(run.folder)
    before = snapshot(run.folder)
    answer = call(*SEARCH, "--json")
    assert answer.code == 0
    [line] = answer.err.splitlines()
    assert run.row["run"] in line
    assert "finished" in line
    assert "--force" in line
    assert answer.json() == [run.row]
    assert call(*SEARCH, "--json", "-q").err == ""
    assert snapshot(run.folder) == before


def test_same_command_gives_the_same_line(run, monkeypatch):
    monkeypatch.chdir(run.folder)
    assert call(*SEARCH, "--json").out == run.answer.out


def test_search_for_humans(run, monkeypatch):
    monkeypatch.chdir(run.folder)
    [line] = call(*SEARCH).out.splitlines()
    assert run.row["ticket"] in line
    assert f"{run.row['val_accuracy']:.4f}" in line


def test_values_equal_to_the_defaults_are_the_same_run(run, monkeypatch):
    monkeypatch.chdir(run.folder)
    answer = call(*SEARCH, "--density", "0.5", "--dataset", "digits", "--seed", "0", "--json")
    assert answer.json() == [run.row]
    answer = call("search", "--config", Path(run.row["run"]) / "config.json", "--json")
    assert (answer.code, answer.json()) == (0, [run.row])


TINY = ("search", "--arch", "lenet300", "--width", "0.05", "--epochs", "1", "--json", "-q")


def test_a_search_goes_on_with_the_devices_that_it_began_with(here):
    """As a node of another number of cores would."""
    [row] = call(*TINY, "--devices", "1", "--out", "run").json()
    answer = call(*TINY, "--out", "run")
    assert (answer.code, answer.json()) == (0, [row])
    assert "devices 1 there, 2 here" in call(*TINY, "--devices", "2", "--out", "run").err


def test_a_link_as_run_folder_stays_one(here):
    (here / "scratch").mkdir()
    for name, target in (("one", "scratch"), ("other", "nowhere")):
        Path(name).symlink_to(target)
        [row] = call(*TINY, "--out", name).json()
        assert Path(name).is_symlink()
        assert Path(name, Path(row["ticket"]).name).is_file()
    assert sorted(item.name for item in here.iterdir()) == ["nowhere", "one", "other", "scratch"]


@pytest.mark.parametrize("change", [{"val_accuracy": None}, {"ticket_bytes": "many"}, {"warnings": "many"}])
def test_a_result_of_wrong_values_is_damaged(here, change):
    [row] = call(*TINY, "--out", "run").json()
    path = Path("run", "result.json")
    path.write_text(json.dumps({"complete": True, "results": [row | change]}))
    answer = call(*TINY, "--out", "run")
    assert (answer.code, answer.out) == (3, "")
    assert "result.json is damaged; --force starts over" in answer.err


def test_the_config_of_a_run_finds_the_run_whatever_it_was_called_for(here):
    words = ("search", "--arch", "lenet300", "--width", "0.05", "--epochs", "1", "--json", "-q")
    plain = call(*words).json()[0]
    [one] = call(*words, "--devices", "1").json()
    [named] = call(*words, "--seed", "3", "--out", "named").json()
    for row in (plain, one, named):
        before = snapshot(here)
        answer = call("search", "--config", Path(row["run"]) / "config.json", "--json", "-q")
        assert (answer.code, answer.json()) == (0, [row])
        assert snapshot(here) == before
    [other] = call("search", "--config", Path(named["run"]) / "config.json", "--seed", "0", "--json", "-q").json()
    assert other["ticket"] == plain["ticket"]


def test_force_searches_anew_and_finds_the_same_ticket(run, here):
    shutil.copytree(run.folder / "runs", here / "runs")
    old = (here / run.row["ticket"]).stat().st_ino
    answer = call(*SEARCH, "--json", "--force", "-q")
    assert (answer.code, answer.err) == (0, "")
    [row] = answer.json()
    assert row["ticket"] == run.row["ticket"]
    assert (here / row["ticket"]).stat().st_ino != old
    assert (here / row["ticket"]).read_bytes() == run.ticket.read_bytes()
    assert row["train_seconds"] != run.row["train_seconds"]


def test_config_file_repeats_the_run(run):
    answer = call("search", "--config", run.path / "config.json", "--out", "again", "--json")
    assert answer.code == 0, answer.err
    [row] = answer.json()
    assert row["run"] == "again"
    assert Path(row["ticket"]).read_bytes() == run.ticket.read_bytes()
    assert Path("again/config.json").read_bytes() == (run.path / "config.json").read_bytes()


@pytest.mark.slow  # tests/experiments/test_search.py says it of the library
def test_seeds_side_by_side_equal_single_runs(run, here):
    answer = call(*SEARCH, "--seeds", "2", "--out", "both", "--json")
    assert answer.code == 0, answer.err
    first, second = answer.json()
    assert [first["seed"], second["seed"]] == [0, 1]
    assert first["run"] == second["run"] == "both"
    assert Path(first["ticket"]).read_bytes() == run.ticket.read_bytes()
    [single] = call(*SEARCH, "--seed", "1", "--json").json()
    assert Path(second["ticket"]).read_bytes() == Path(single["ticket"]).read_bytes()
    assert Path(first["ticket"]).read_bytes() != Path(second["ticket"]).read_bytes()
    assert len(call(*SEARCH, "--seeds", "2", "--out", "both", "--json").json()) == 2


def test_folder_of_another_config_is_refused(run, here):
    shutil.copytree(run.path, here / "mine")
    before = snapshot(here)
    line = call(*SEARCH, "--density", "0.3", "--out", "mine").refused(4)
    assert "mine" in line
    assert "density" in line
    assert "epochs" not in line
    assert snapshot(here) == before


def test_folder_that_is_no_run_is_refused_even_with_force(here):
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    before = snapshot(here)
    for force in ([], ["--force"]):
        assert "mine" in call(*SEARCH, "--out", "mine", *force).refused(4)
    assert snapshot(here) == before


def test_folder_in_use_is_refused(here):
    config = SearchConfig.from_dict(dry(*SEARCH[1:]))
    with open_run(Path("mine"), config):
        before = snapshot(here)
        for force in ([], ["--force"]):
            assert "mine" in call(*SEARCH, "--out", "mine", *force).refused(4)
        assert snapshot(here) == before


@pytest.mark.parametrize("name", [".", "..", "/"])
def test_folder_above_as_run_folder(here, name):
    """Exit 4 where it holds something; what matters is one line and nothing written."""
    before = snapshot(here.parent)
    answer = call(*SEARCH, "--out", name)
    assert "Traceback" not in answer.err
    assert answer.refused(answer.code)
    assert answer.code in (2, 4)
    assert snapshot(here.parent) == before


def test_weights_are_embedded_although_the_run_is_finished(run, here):
    shutil.copytree(run.folder / "runs", here / "runs")
    answer = call(*SEARCH, "--embed-weights", "--json")
    assert answer.code == 0, answer.err
    [row] = answer.json()
    assert Ticket.load(row["ticket"]).embedded is not None
    assert row["ticket_bytes"] == Path(row["ticket"]).stat().st_size > 4 * 50_000


# search: what is searched


def dry(*words, code=0):
    answer = call("search", *words, "--dry-run")
    assert answer.code == code, answer.err
    return json.loads(answer.out)


def test_dry_run_prints_the_resolved_config_and_writes_nothing(here):
    values = dry("--arch", "lenet300", "--method", "sigmoid", "-o", "hard=continuous")
    assert set(values) == {item.name for item in fields(SearchConfig)} - set(OPTIONAL)  # said where they are given
    still_open = {name for name, value in values.items() if value is None}
    assert still_open == {"image_size", "micro_batch", "maskable", "unmasked", "train"}
    assert values["options"]["hard"] == "continuous"
    assert "temperature" in values["options"]
    assert snapshot(here) == {}
    Path("config.json").write_text(json.dumps(values))
    assert dry("--config", "config.json") == values


def test_precedence(monkeypatch):
    """Option, environment, config file, default: each hides the ones after it."""
    default = dry()["epochs"]
    Path("c.json").write_text('{"epochs": 5, "seed": 3}')
    assert default not in (5, 7, 9)
    assert dry("--config", "c.json")["epochs"] == 5
    monkeypatch.setenv("SUPERMASK_EPOCHS", "7")
    assert dry()["epochs"] == 7
    assert dry("--config", "c.json")["epochs"] == 7
    assert dry("--config", "c.json", "--epochs", "9")["epochs"] == 9
    assert dry("--config", "c.json")["seed"] == 3


def test_option_equal_to_the_default_still_hides_the_file():
    Path("c.json").write_text('{"density": 0.25, "scale_by_density": true}')
    assert dry("--config", "c.json")["density"] == 0.25
    assert dry("--config", "c.json", "--density", "0.5")["density"] == 0.5
    assert dry("--config", "c.json")["scale_by_density"] is True


def test_options_of_the_method_are_merged_into_those_of_the_file():
    Path("c.json").write_text('{"method": "sigmoid", "options": {"temperature": 2.0, "hard": "continuous"}}')
    options = dry("--config", "c.json", "-o", "temperature=3")["options"]
    assert (options["temperature"], options["hard"]) == (3.0, "continuous")


def test_option_of_the_method_equal_to_its_default_is_the_same_run():
    from supermask.resolve import resolve

    plain = resolve(SearchConfig(method="sigmoid"))
    typed = resolve(SearchConfig(method="sigmoid", options={"temperature": "1"}))
    assert default_path(Path(), typed, plain) == default_path(Path(), plain, plain)


def test_option_of_the_method_from_the_environment(monkeypatch):
    monkeypatch.setenv("SUPERMASK_OPTION", "temperature=3")
    assert dry("--method", "sigmoid")["options"]["temperature"] == 3.0


@pytest.mark.parametrize(("sparsity", "density"), [("0", 1.0), ("0.75", 0.25), ("0.7", 0.3), ("0.9", 0.1)])
def test_sparsity_is_one_minus_density(sparsity, density):
    assert dry("--sparsity", sparsity)["density"] == density  # the same number, so the same run folder


def test_sparsity_hides_the_density_of_a_file():
    Path("c.json").write_text('{"density": 0.3}')
    assert dry("--config", "c.json", "--sparsity", "0.75")["density"] == 0.25


def test_typed_sparsity_or_density_hides_the_other_of_the_environment(monkeypatch):
    monkeypatch.setenv("SUPERMASK_DENSITY", "0.3")
    assert dry("--sparsity", "0.75")["density"] == 0.25
    monkeypatch.delenv("SUPERMASK_DENSITY")
    monkeypatch.setenv("SUPERMASK_SPARSITY", "0.3")
    assert dry()["density"] == 0.7
    assert dry("--density", "0.25")["density"] == 0.25


def test_lr_is_short_for_learning_rate():
    assert dry("--lr", "0.03")["learning_rate"] == dry("--learning-rate", "0.03")["learning_rate"] == 0.03


def test_floor_of_a_trained_run(run):
    """The natural question after a run: what would a random mask have given, all else equal?"""
    values = dry("--config", run.path / "config.json", "--method", "random")
    assert (values["method"], values["epochs"], values["density"]) == ("random", 0, 0.5)


# eval


def test_eval_json(run):
    answer = call("eval", run.ticket, "--json")
    assert answer.code == 0, answer.err
    [row] = answer.json()
    assert tuple(row) == EVAL_KEYS
    assert (row["ticket"], row["dataset"], row["split"]) == (str(run.ticket), "digits", "test")
    assert row["examples"] > 100
    assert 0.3 < row["accuracy"] <= 1
    assert row["accuracy"] * row["examples"] == pytest.approx(round(row["accuracy"] * row["examples"]), abs=1e-9)
    assert row["loss"] > 0
    assert row["density"] == 0.5
    assert [tuple(layer) for layer in row["layers"]] == [LAYER_KEYS] * 3
    assert sum(layer["total"] for layer in row["layers"]) == 50_200
    assert [layer["kept"] * 2 for layer in row["layers"]] == [layer["total"] for layer in row["layers"]]
    [line] = answer.err.splitlines()
    assert "reproduced" in line
    assert "not" not in line


def test_eval_gives_the_accuracy_that_the_search_gave(run):
    answer = call("eval", run.ticket, "--split", "validation", "--json", "-q")
    assert answer.err == ""
    assert answer.json()[0]["accuracy"] == run.row["val_accuracy"]


def test_eval_for_humans_and_of_a_ticket_that_is_not_what_it_says(ticket):
    loaded = Ticket.load(ticket)
    wrong = loaded.metrics["val_accuracy"] - 0.125
    replace(loaded, metrics=loaded.metrics | {"val_accuracy": wrong}).save(ticket)
    answer = call("eval", ticket, "-q")
    assert answer.code == 0
    [line] = answer.err.splitlines()
    assert "warning" in line
    assert f"{wrong:.4f}" in line
    assert f"{loaded.metrics['val_accuracy']:.4f}" in line
    first, *rows = answer.out.splitlines()
    assert "accuracy" in first
    assert [row.split()[0] for row in rows] == ["layer", "dense1/kernel", "dense2/kernel", "head/kernel", "total"]


def test_weights_that_no_longer_match(ticket, here):
    loaded = Ticket.load(ticket)
    replace(loaded, fingerprint=loaded.fingerprint | {"dense2/kernel": "0" * 16}).save(ticket)
    before = snapshot(here)
    for words in (["eval", ticket], ["export", ticket, "-o", "x.npz"]):
        line = call(*words).refused(3)
        assert "dense2/kernel" in line
        assert str(ticket) in line
    assert snapshot(here) == before


def test_eval_of_a_ticket_that_does_not_fit_its_arch(ticket):
    loaded = Ticket.load(ticket)
    replace(loaded, config=loaded.config.replace(width=0.5)).save(ticket)
    assert "dense1/kernel" in call("eval", ticket).refused(3)


def write_npz(path, value=0):
    """40 + 20 images of two classes."""
    path.parent.mkdir(exist_ok=True)
    arrays = {}
    for part, count in (("train", 40), ("test", 20)):
        images = np.full((count, 8, 8), value, np.uint8)
        images[1::2, :4] = 200
        arrays |= {f"x_{part}": images, f"y_{part}": np.arange(count) % 2}
    np.savez(path, **arrays)


def test_eval_where_the_data_is_now_and_on_other_data(here):
    write_npz(here / "a.npz")
    [row] = call(*TINY, "--dataset", "npz:a.npz", "--out", "run").json()
    (here / "data").mkdir()
    shutil.move("a.npz", "data/a.npz")
    line = call("eval", row["ticket"]).refused(3)
    assert "a.npz does not exist; if the ticket's data has moved, --dataset says where to" in line
    for words, name in (
        (("--data-dir", "data"), "npz:a.npz"),
        (("--dataset", "npz:data/a.npz"), "npz:data/a.npz"),
    ):
        answer = call("eval", row["ticket"], "--json", *words)
        assert answer.json()[0]["dataset"] == name
        assert answer.err.splitlines()[0] == f"validation accuracy {row['val_accuracy']:.4f} reproduced"
    write_npz(here / "a.npz", value=9)
    assert "npz:a.npz is not the data of run/ticket-s0.safetensors: train images differ" in (
        call("eval", row["ticket"], "--data-dir", "data").refused(3)
    )
    answer = call("eval", row["ticket"], "--dataset", "npz:a.npz", "--json", "-q")
    [note, *_] = answer.err.splitlines()
    assert note == "note: npz:a.npz is other data than the ticket's: train images differ; test images differ"
    assert answer.json()[0]["other_data"] == ["train images differ", "test images differ"]


def test_a_run_whose_data_has_moved_is_resumed_where_it_is_now(here):
    write_npz(here / "a.npz")
    [row] = call(*TINY, "--dataset", "npz:a.npz", "--out", "run").json()
    shutil.move("a.npz", "b.npz")
    resume = ("search", "--resume", "run", "--json", "-q")
    answer = call(*resume, "--dataset", "npz:b.npz")
    assert (answer.code, answer.json()) == (0, [row])
    write_npz(here / "b.npz", value=9)
    assert "run was made of other data or code (train images differ" in call(*resume, "--dataset", "npz:b.npz").refused(
        4
    )
    shutil.move("b.npz", "a.npz")
    assert "train images differ" in call(*TINY, "--dataset", "npz:a.npz", "--out", "run").refused(4)


# export


EXPECTED = {
    "npz": lambda ticket: ticket.effective(),
    "safetensors": lambda ticket: ticket.effective(),
    "mask": lambda ticket: ticket.mask,
}


def read_export(path):
    if path.suffix == ".safetensors":
        return load_file(path)
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


@pytest.mark.parametrize("name", registry.names("exporters"))
def test_export(ticket, here, name):
    output = Path("out.safetensors" if name in ("safetensors", "torch") else "out.npz")
    answer = call("export", ticket, "--format", name, "-o", output, "--json")
    assert (answer.code, answer.err) == (0, "")
    assert answer.json() == [
        {"ticket": str(ticket), "format": name, "path": str(output), "bytes": output.stat().st_size}
    ]
    assert list(answer.json()[0]) == ["ticket", "format", "path", "bytes"]
    assert sorted(snapshot(here)) == sorted([str(output), str(ticket)])
    if name in EXPECTED:
        found, expected = read_export(output), EXPECTED[name](Ticket.load(ticket))
        assert set(found) == set(expected)
        for key in expected:
            assert found[key].dtype == expected[key].dtype
            np.testing.assert_array_equal(found[key], expected[key])


def test_export_without_words_goes_beside_the_ticket(ticket, here):
    Path("deep").mkdir()
    shutil.move(ticket, "deep/t.safetensors")
    before = set(snapshot(here))
    for name in registry.names("exporters"):
        answer = call("export", "deep/t.safetensors", "--format", name)
        assert answer.code == 0, answer.err
    new = set(snapshot(here)) - before
    assert len(new) == len(registry.names("exporters"))
    assert all(path.startswith("deep/t") for path in new)


def test_existing_file_is_kept_unless_forced(ticket, here):
    Path("out.npz").write_text("mine")
    before = snapshot(here)
    assert "--force" in call("export", ticket, "-o", "out.npz").refused(2)
    assert snapshot(here) == before
    assert call("export", ticket, "-o", "out.npz", "--force").code == 0
    assert set(read_export(Path("out.npz"))) >= {"head/kernel"}
    assert set(snapshot(here)) == set(before)


def test_ticket_is_not_overwritten_by_its_own_export(ticket, here):
    before = snapshot(here)
    call("export", ticket, "-o", ticket, "--force").refused(2)
    assert snapshot(here) == before


@pytest.mark.parametrize("name", ["missing/out.npz", "file/out.npz", "folder", "file/deeper/out.npz"])
@pytest.mark.parametrize("force", [[], ["--force"]], ids=["plain", "force"])
def test_output_that_cannot_be(ticket, here, name, force):
    Path("file").write_text("a regular file")
    Path("folder").mkdir()
    before = snapshot(here)
    assert name.split("/")[0] in call("export", ticket, "-o", name, *force).refused(2)
    assert snapshot(here) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable for root")
def test_unwritable_folder(ticket, here):
    Path("locked").mkdir(mode=0o555)
    assert "locked" in call("export", ticket, "-o", "locked/out.npz").refused(2)
    assert list(Path("locked").iterdir()) == []


# inspect and list


def test_inspect_json(run):
    answer = call("inspect", run.ticket, "--json")
    assert (answer.code, answer.err) == (0, "")
    [row] = answer.json()
    assert tuple(row) == INSPECT_KEYS
    assert (row["mask"], row["density"], row["image_shape"]) == ("binary", 0.5, [8, 8, 1])
    assert row["bytes"] == run.ticket.stat().st_size
    assert row["config"]["arch"] == "lenet300"
    assert row["metrics"]["val_accuracy"] == run.row["val_accuracy"]
    assert [tuple(layer) for layer in row["layers"]] == [LAYER_KEYS] * 3


def test_inspect_for_humans(run):
    answer = call("inspect", run.ticket)
    assert (answer.code, answer.err) == (0, "")
    for word in ("lenet300", "digits", "edge-popup", "binary", "dense1/kernel", "64x300", "9,600", "19,200", "0.5000"):
        assert word in answer.out


@pytest.mark.parametrize("kind", [*registry.KINDS, "inits"])
def test_list(kind):
    answer = call("list", kind, "--json")
    assert (answer.code, answer.err) == (0, "")
    rows = answer.json()
    names = [row["name"] for row in rows]
    if kind != "inits":
        assert tuple(names) == registry.names(kind)
    for row in rows:
        assert {"kind", "name", "summary", "options"} <= set(row) <= {"kind", "name", "summary", "options", "paper"}
        assert row["kind"] == kind
        assert row["summary"]
        assert ("paper" in row) >= (kind == "methods" and row["name"] in ("edge-popup", "bernoulli", "sigmoid"))
    for verbose in ([], ["-v"]):
        out = call("list", kind, *verbose).out
        assert all(name in out for name in names)


def test_list_everything():
    rows = call("list", "--json").json()
    assert {row["kind"] for row in rows} == {*registry.KINDS, "inits"}
    assert {"lenet300", "conv4", "digits", "edge-popup", "signed-constant", "npz"} <= {row["name"] for row in rows}


def test_list_verbose_gives_options_defaults_and_paper():
    out = call("list", "methods", "-v").out
    assert "temperature=1.0" in out
    assert "arXiv 1912.04427" in out


# Help and environment


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help(command, flag):
    answer = call(*([command] if command else []), flag)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("Usage: supermask")
    assert all(len(line) <= 100 for line in answer.out.splitlines())


def test_help_names_commands_defaults_and_exit_codes():
    out = call("--help").out
    assert all(f"\n  {command} " in out for command in COMMANDS)
    assert "130" in out
    out = " ".join(call("search", "--help").out.split())
    assert "Fraction of maskable weights kept. [default: 0.5]" in out
    assert "Examples" in out


def test_without_words_the_help_is_readable():
    answer = call()
    assert answer.code in (0, 2)
    assert len((answer.out + answer.err).splitlines()) > 10


def test_version():
    answer = call("--version")
    assert (answer.code, answer.out, answer.err) == (0, supermask.__version__ + "\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_an_environment_variable_of_its_own(name):
    command = group.get_command(click.Context(group), name)
    options = [item for item in command.params if isinstance(item, click.Option)]
    if name in ("sweep", "tune"):  # axes have none: the command that is called reads its own
        options = [item for item in options if not item.name.startswith("axis_") and not item.name.endswith("pairs")]
    for item in options:
        long = next(word for word in item.opts if word.startswith("--"))
        assert item.envvar == "SUPERMASK_" + long[2:].upper().replace("-", "_")
        assert item.help
    assert len({item.envvar for item in options}) == len(options)


def test_every_field_of_the_config_is_an_option():
    names = {item.name for item in group.get_command(click.Context(group), "search").params}
    filled_in = {"weights_sha256", "within_sha256"}
    assert {item.name for item in fields(SearchConfig)} - {"options", "arch_options"} - filled_in <= names
    assert {"pairs", "arch_pairs"} <= names  # which stand for them


# Given weights


def test_weights_and_within_in_words(run, here):
    shown = ("--dry-run", "--json")
    ticket = shutil.copy(run.ticket, here / "t.safetensors")
    [config] = call("search", "--arch", "lenet300", "--weights", ticket, *shown).json()
    assert (config["weights"], config["init"]) == (str(ticket), None)
    [inner] = call("search", "--within", ticket, "--density", "0.1", "--seed", "4", *shown).json()
    assert (inner["within"], inner["arch"], inner["init"], inner["seed"]) == (
        str(ticket),
        "lenet300",
        "signed-constant",
        4,
    )
    [both] = call("search", "--within", ticket, "--weights", ticket, "--density", "0.1", *shown).json()
    assert (both["weights"], both["within"], both["init"]) == (str(ticket), str(ticket), None)
    table = call("search", "--arch", "lenet300", "--weights", ticket, "--dry-run").err
    assert "given" in table
    # A config file or a recipe says how to draw weights; weights that are given override that.
    file = run.path / "config.json"
    [config] = call("search", "--config", file, "--weights", ticket, *shown).json()
    assert (config["weights"], config["init"]) == (str(ticket), None)
    words = ("search", "--arch", "lenet300", "--weights", ticket)
    assert "leave out --init or --weights" in call(*words, "--init", "kaiming-normal").refused(2)
    assert "does not fit conv2" in call("search", "--arch", "conv2", "--weights", ticket, "--out", "x").refused(3)
    assert "at most" in call("search", "--within", ticket, "--density", "0.9", "--out", "x").refused(2)
    for name in ("weights", "within"):
        assert f"leave out --{name}" in call("search", "--resume", run.path, f"--{name}", ticket).refused(2)


# Bad words: exit 2


NUMBERS = [
    *(("--density", value) for value in ("0", "1.5", "nan", "-0.5", "inf", "half")),
    *(("--sparsity", value) for value in ("1", "-0.1", "nan", "half")),
    *(("--epochs", value) for value in ("-1", "1.5", "many")),
    *(("--width", value) for value in ("0", "-1", "nan", "inf")),
    ("--batch-size", "0"),
    ("--image-size", "0"),
    ("--lr", "0"),
    ("--momentum", "1"),
    ("--weight-decay", "-1"),
    *(("--validation", value) for value in ("-0.1", "1", "1e-9")),
    ("--seed", "-1"),
    ("--seed", str(2**32)),
    ("--seeds", "0"),
]


@pytest.mark.parametrize(("name", "value"), NUMBERS, ids=[" ".join(pair) for pair in NUMBERS])
def test_bad_number(here, name, value):
    line = call(*SEARCH, f"{name}={value}").refused(2)
    word = {"--lr": "learning_rate"}.get(name, name[2:])
    assert word.replace("-", "_") in line.replace("-", "_")
    assert snapshot(here) == {}


@pytest.mark.parametrize("variable", ["SUPERMASK_DENSITY", "SUPERMASK_EPOCHS", "SUPERMASK_SCHEDULE"])
def test_bad_value_in_the_environment(here, monkeypatch, variable):
    monkeypatch.setenv(variable, "much")
    call(*SEARCH[:3]).refused(2)
    assert snapshot(here) == {}


WRONG_NAMES = [
    (["search", "--arch", "lenet30"], "lenet300", "conv4"),
    (["search", "--arch", "con4"], "conv4", "lenet300"),
    (["search", "--dataset", "mnst"], "mnist", "cifar10"),
    (["search", "--method", "edge-popp"], "edge-popup", "bernoulli"),
    (["search", "--init", "kaiming-norml"], "kaiming-normal", "signed-constant"),
    (["search", "--schedule", "cosin"], "cosine", "constant"),
    (["search", "--optimizer", "adm"], "adam", "sgd"),
    (["search", "--augment", "crop-flop"], "crop-flip", "none"),
    (["search", "--select", "bets"], "best", "last"),
    (["search", "--device", "gpuu"], "gpu", "cpu"),
    (["search", "--method", "sigmoid", "-o", "temprature=2"], "temperature", "hard"),
    (["eval", "t", "--split", "tset"], "test", "validation"),
    (["export", "t", "--format", "npzz"], "npz", "safetensors"),
    (["list", "method"], "methods", "exporters"),
    (["serch"], "search", "inspect"),
]


@pytest.mark.parametrize(("words", "nearest", "other"), WRONG_NAMES, ids=[" ".join(row[0]) for row in WRONG_NAMES])
def test_wrong_name_answers_with_the_valid_ones_and_the_nearest(here, words, nearest, other):
    line = call(*words).refused(2)
    assert f"did you mean {nearest}?" in line.lower().replace("'", "")
    assert other in line
    assert snapshot(here) == {}


def test_wrong_option_answers_with_the_nearest():
    assert "--epochs" in call("search", "--epoch", "3").refused(2)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--density", "0.3", "--sparsity", "0.7"], ["--density", "--sparsity"]),
        (["-o", "colour=red"], ["colour", "edge-popup"]),
        (["--method", "sigmoid", "-o", "colour=red"], ["colour", "temperature", "final_temperature", "hard"]),
        (["--method", "sigmoid", "-o", "temperature=hot"], ["temperature", "hot", "number"]),
        (["--method", "sigmoid", "-o", "hard=maybe"], ["hard", "maybe", "continuous"]),
        (["--method", "sigmoid", "-o", "temperature=nan"], ["temperature"]),
        (["--method", "sigmoid", "-o", "temperature=-1"], ["temperature"]),
        (["--method", "sigmoid", "-o", "hard"], ["hard", "key=value"]),
        (["--method", "bernoulli", "-o", "rescale=perhaps"], ["rescale", "true or false"]),
        (["--device", "gpu"], ["--device gpu", "cuda"]),
        (["--arch", "conv8"], ["conv8", "16", "--image-size"]),
        (["--arch", "no_such_module_1:Net"], ["no_such_module_1"]),
        (["--arch", "json:Net"], ["json", "Net"]),
        (["--method", "no_such_module_1:Method"], ["no_such_module_1"]),
        (["--method", "json:JSONEncoder"], ["Method"]),
        (["--dataset", "npz:"], ["npz:PATH"]),
        (["--dataset", "folder"], ["folder:PATH"]),
        (["--runs-dir", "file"], ["file"]),
        (["--out", "file/mine"], ["file"]),
        (["surplus"], ["surplus"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_wrong_words(here, words, expected):
    Path("file").write_text("a regular file")
    before = snapshot(here)
    line = call("search", "--arch", "lenet300", *words).refused(2)
    assert [word for word in expected if word not in line] == []
    assert snapshot(here) == before


@pytest.mark.parametrize("words", [["eval", "--samples", "0"], ["eval", "--split", "all"], ["inspect", "--deep"]])
def test_wrong_words_about_a_ticket(ticket, words):
    call(words[0], ticket, *words[1:]).refused(2)


@pytest.mark.parametrize("command", ["eval", "export", "inspect"])
def test_no_ticket_given(command):
    assert "TICKET" in call(command).refused(2)


# Bad files: exit 3


BAD_TICKETS = {
    "missing": lambda path, data: None,
    "folder": lambda path, data: path.mkdir(),
    "empty": lambda path, data: path.write_bytes(b""),
    "text": lambda path, data: path.write_text("hello\n"),
    "truncated": lambda path, data: path.write_bytes(data[:-1]),
    "flipped": lambda path, data: path.write_bytes(data[:-9] + bytes([data[-9] ^ 4]) + data[-8:]),
    "newer": lambda path, data: path.write_bytes(data.replace(rb"\"format\":1", rb"\"format\":3")),
}


@pytest.mark.parametrize("kind", BAD_TICKETS)
def test_bad_ticket(run, here, kind):
    path = Path("bad.safetensors")
    BAD_TICKETS[kind](path, run.ticket.read_bytes())
    before = snapshot(here)
    for command in (["eval"], ["inspect"], ["inspect", "--json"], ["export", "-o", "x.npz"], ["export", "--json"]):
        line = call(*command, path).refused(3)
        assert str(path) in line
        assert ("upgrade" in line) == (kind == "newer")
    assert snapshot(here) == before


@pytest.mark.parametrize("name", [".", "/"])
def test_folder_above_as_ticket(name):
    for command in ("eval", "inspect", "export"):
        call(command, name).refused(3)


BAD_CONFIGS = {
    "not json": "{",
    "list": "[1]",
    "unknown key": '{"colour": "red"}',
    "density as text": '{"density": "0.5"}',
    "density out of range": '{"density": 7}',
    "arch as number": '{"arch": 5}',
    "dataset as list": '{"dataset": ["digits"]}',
    "method as null": '{"method": null}',
    "init as number": '{"init": 7}',
    "options as number": '{"options": 5}',
    "options as text": '{"options": "abc"}',
    "options as null": '{"options": null}',
    "flag as text": '{"scale_by_density": "no"}',
    "deep": "[" * 200_000,
    "binary": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("more", [[], ["--seed", "1"]], ids=["alone", "with an option"])
@pytest.mark.parametrize("kind", BAD_CONFIGS)
def test_bad_config_file(here, kind, more):
    content = BAD_CONFIGS[kind]
    Path("c.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    before = snapshot(here)
    assert "c.json" in call("search", "--config", "c.json", "--dry-run", *more).refused(3)
    assert snapshot(here) == before


@pytest.mark.parametrize("options", ["5", "null", '"abc"', "[1]"])
def test_bad_options_in_a_config_file(options):
    Path("c.json").write_text(f'{{"method": "sigmoid", "options": {options}}}')
    assert "c.json" in call("search", "--config", "c.json", "--dry-run", "-o", "temperature=2").refused(3)


def test_good_config_file_with_a_bad_option():
    Path("c.json").write_text('{"epochs": 5}')
    assert "epochs" in call("search", "--config", "c.json", "--epochs", "-1").refused(2)


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_config_file_that_is_not_there(name):
    assert name in call("search", "--config", name).refused(3)


def write_mnist(folder, magic=2051, labels=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9), cut=0):
    """The four files of MNIST with ten images each, one thing about them wrong."""
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        images = struct.pack(">4I", magic, 10, 28, 28) + bytes(7840)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images[: len(images) - cut])
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, 10) + bytes(labels))


BAD_DATA = {
    "mnist empty": ("mnist", lambda folder: folder.mkdir(), ["http", "mnist"]),
    "mnist truncated": ("mnist", lambda folder: write_mnist(folder / "mnist", cut=1), ["train-images", "truncated"]),
    "mnist magic": ("mnist", lambda folder: write_mnist(folder / "mnist", magic=9999), ["train-images", "magic"]),
    "mnist labels": ("mnist", lambda folder: write_mnist(folder / "mnist", labels=range(1, 11)), ["label", "10"]),
    "cifar10 empty": ("cifar10", lambda folder: folder.mkdir(), ["http", "cifar"]),
    "npz missing": ("npz:data/x.npz", lambda folder: folder.mkdir(), ["data/x.npz"]),
    "npz text": ("npz:data", lambda folder: folder.write_text("hello"), ["data"]),
    "folder empty": ("folder:data", lambda folder: folder.mkdir(), ["data/train"]),
}


@pytest.mark.parametrize("kind", BAD_DATA)
def test_bad_dataset(here, kind):
    name, make, words = BAD_DATA[kind]
    make(Path("data"))
    before = snapshot(here)
    line = call("search", "--arch", "lenet300", "--dataset", name, "--data-dir", "data").refused(3)
    assert [word for word in words if word not in line] == []
    assert snapshot(here) == before


# In a process of its own


def start(*words, **settings):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, *words], text=True, env=environment, **settings)


def test_light_commands_import_no_jax(ticket):
    exports = [["export", str(ticket), "--format", name] for name in registry.names("exporters")]
    calls = [["list"], ["list", "-v"], ["inspect", str(ticket)], *exports]
    code = f"""
import sys
from supermask.cli import main
for words in {calls!r}:
    try:
        main(words)
    except SystemExit as stop:
        assert not stop.code, words
    assert not {{"jax", "jaxlib", "flax", "optax", "sklearn"}} & set(sys.modules), words
"""
    process = start("-c", code, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (0, "")


def test_reader_of_a_pipe_that_goes_away_is_no_error():
    """`supermask list | head -1`, with a head that has gone before the first line."""
    reading, writing = os.pipe()
    os.close(reading)
    process = start("-m", "supermask", "list", "-v", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (0, "")


def test_clone_without_installation():
    process = start("cli.py", "--version", cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.communicate(timeout=600) == (supermask.__version__ + "\n", "")
    assert process.returncode == 0


def test_ctrl_c_ends_with_the_best_ticket_so_far(here):
    words = ("-m", "supermask", "search", "--arch", "lenet300", "--method", "sigmoid", "--epochs", "100000", "--json")
    process = start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        lines = [process.stderr.readline(), process.stderr.readline()]
        assert "run folder" in lines[0]
        assert "epoch 1/100000" in lines[1]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    *progress, took, last = (lines[1] + err).splitlines()
    assert all("epoch" in line for line in progress)
    assert "compiling" in took
    [row] = [json.loads(line) for line in out.splitlines()]
    assert last.startswith("supermask: interrupted")
    assert row["ticket"] in last
    ticket = Ticket.load(row["ticket"])
    best = max(json.loads(line)["val_accuracy"] for line in Path(row["run"], "metrics.jsonl").read_text().splitlines())
    assert ticket.metrics["val_accuracy"] == row["val_accuracy"] == best
    assert [item.name for item in Path("runs").iterdir()] == [Path(row["run"]).name]
    config = SearchConfig.from_dict(read_config(Path(row["run"], "config.json")))
    assert finished(Path(row["run"]), config) is None  # so the same command searches anew


@pytest.mark.slow
def test_bench_reports_steps_against_matrix_products(monkeypatch):
    monkeypatch.setattr("supermask.experiments.bench.SECONDS_PER_ROUND", 0.05)
    words = ("bench", "--arch", "conv2", "--width", "0.1", "--shape", "8x8x1", "--rounds", "1")
    [row] = call(*words, "--json").json()
    assert row["images_per_second"] == pytest.approx(1e3 * row["batch_size"] / row["ms_per_step"])
    assert row["matmul_share"] == pytest.approx(
        row["images_per_second"] * row["gflop_per_image"] / row["matmul_gflops"]
    )
    assert row["devices"] == 2
    assert row["compile_seconds"] > 0
    assert row["peak_memory_bytes"] > 1e8
    assert call(*words).out.count("\n") == 7


@pytest.mark.parametrize(("words", "text"), [("--shape 8x8", "HEIGHTxWIDTHxCHANNELS"), ("--method random", "trained")])
def test_bench_refuses(words, text):
    answer = call("bench", *words.split())
    assert answer.code == 2
    assert text in answer.err
