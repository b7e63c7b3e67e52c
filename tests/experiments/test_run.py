"""Durable runs from Python: the folder, its lock, its checkpoints and signals, as the command has them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import watch

import supermask
from supermask.errors import BadFileError, RunFolderError, StoppedError
from supermask.experiments.options import CheckpointPolicy, RunOptions
from supermask.runs.folder import claimed
from supermask.runs.index import hidden_path

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SMALL = {"arch": "lenet300", "width": 0.1, "epochs": 3}


class Stop(supermask.Callback):
    """A signal to ourselves after some epochs."""

    def __init__(self, after):
        self.after, self.notes = after, []

    def on_epoch(self, metrics):
        if metrics.epoch == self.after:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_note(self, text):
        self.notes.append(text)


@pytest.mark.parametrize("kind", [pytest.param("search", marks=pytest.mark.slow), "train"])
def test_a_run_from_python_is_the_command_s(tmp_path, kind):
    config = {"search": supermask.SearchConfig, "train": supermask.TrainConfig}[kind](**SMALL)
    call = getattr(supermask, kind)
    [found] = call(config, run=tmp_path / "run")
    words = ["--arch", "lenet300", "--width", "0.1", "--epochs", "3", "--out", "run", "--json"]
    command = [sys.executable, "-m", "supermask", kind, *words]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "run is finished; this is its result" in result.stderr
    row = json.loads(result.stdout)
    written = (tmp_path / row["ticket" if kind == "search" else "weights"]).read_bytes()
    assert written == found.to_bytes() == call(config)[0].to_bytes()


@pytest.mark.parametrize("kind", ["search", "train"])
def test_a_signal_stops_it_with_a_checkpoint_and_the_same_call_goes_on_to_the_same_bytes(tmp_path, kind):
    config = {"search": supermask.SearchConfig, "train": supermask.TrainConfig}[kind](**SMALL, seeds=2, devices=1)
    call, stop = getattr(supermask, kind), Stop(after=2)
    with pytest.raises(StoppedError, match="stopped by SIGTERM; the same command goes on from step"):
        call(config, run=tmp_path / "run", callbacks=[stop])
    stopped = supermask.Run.open(tmp_path / "run")
    assert not stopped.complete
    assert stopped.metrics["epoch"].tolist() == [1, 2]
    notes = []
    found = call(config, run=tmp_path / "run", callbacks=[watch(note=notes.append)])
    assert any(note.startswith("going on from step") for note in notes)
    assert [one.to_bytes() for one in found] == [one.to_bytes() for one in call(config)]


def test_a_run_is_read_without_jax(tmp_path):
    tickets = supermask.search(supermask.SearchConfig(**SMALL, seeds=2), run=tmp_path / "run")
    code = """
import sys, supermask
run = supermask.Run.open(sys.argv[1])
print(run.config.arch, run.complete, run.metrics["epoch"].shape, len(run.tickets), run.weights)
print(sorted({"jax", "flax", "optax"} & set(sys.modules)))
"""
    words = [sys.executable, "-c", code, str(tmp_path / "run")]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines == ["lenet300 True (6,) 2 []", "[]"]
    run = supermask.Run.open(tmp_path / "run")
    assert [ticket.to_bytes() for ticket in run.tickets] == [ticket.to_bytes() for ticket in tickets]
    assert run.metrics["seed"].tolist() == [0, 1] * 3
    assert run.metrics["val_accuracy"].dtype == np.float64
    assert [row["val_accuracy"] for row in run.results] == [t.metrics["val_accuracy"] for t in tickets]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a search, to be copied."""
    path = tmp_path_factory.mktemp("finished") / "run"
    supermask.search(supermask.SearchConfig(**SMALL | {"epochs": 1}), run=path)
    return path


@pytest.mark.parametrize("name", ["config.json", "result.json", "metrics.jsonl", "ticket-s0.safetensors"])
def test_a_damaged_run_is_named(finished, tmp_path, name):
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / name
    path.write_bytes(path.read_bytes()[:-9])

    def read():
        run = supermask.Run.open(tmp_path / "run")
        return run.metrics, run.tickets

    with pytest.raises(BadFileError, match=re.escape(name)):
        read()


def test_a_folder_that_another_process_works_in_is_refused(tmp_path):
    with claimed(tmp_path / "run"), pytest.raises(RunFolderError, match="another process"):
        supermask.search(supermask.SearchConfig(**SMALL), run=tmp_path / "run")


def test_options_of_a_run(tmp_path):
    seen = []
    options = RunOptions(
        root=tmp_path, embed_weights=True, checkpoints=CheckpointPolicy(epochs=1), callbacks=(watch(save=seen.append),)
    )
    [ticket] = supermask.search(supermask.SearchConfig(**SMALL), run=options)
    assert ticket.embedded is not None
    assert [snapshot.epochs_done for snapshot in seen] == [1, 2]
    [folder] = tmp_path.iterdir()
    assert folder.name.startswith("lenet300-digits-edge-popup-d0.5-s0-")
    assert supermask.Run.open(folder).complete
    assert not hidden_path(folder).exists()


def test_a_bad_option_loses_nothing_of_a_stopped_run(tmp_path):
    config = supermask.SearchConfig(**SMALL)
    with pytest.raises(StoppedError):
        supermask.search(config, run=tmp_path / "run", callbacks=[Stop(after=1)])
    before = {path.name: path.read_bytes() for path in Path(tmp_path / "run").iterdir()}
    for wrong in ({"options": {"anneal": 2.0}}, {"arch": "conv8"}, {"batch_size": 7, "micro_batch": 2}):
        with pytest.raises(supermask.SupermaskError):
            supermask.search(config.replace(**wrong), run=RunOptions(tmp_path / "run", force=True))
    assert {path.name: path.read_bytes() for path in Path(tmp_path / "run").iterdir()} == before


def test_a_callback_that_stops_a_durable_run_is_named(tmp_path):
    seen = []
    stop = watch(epoch=seen.append, stop=lambda: len(seen) >= 1)
    config = supermask.SearchConfig(**SMALL)
    with pytest.raises(StoppedError, match=r"stopped by a callback; the same command goes on from step .* so far: "):
        supermask.search(config, run=tmp_path / "run", callbacks=[stop])
    assert supermask.search(config, run=tmp_path / "run")[0].to_bytes() == supermask.search(config)[0].to_bytes()


@pytest.mark.parametrize("devices", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_of_the_command_is_read_and_resumed_from_python(tmp_path, devices):
    """The command makes a CPU as many devices as it has cores, Python one, unless it is told before it is used."""
    words = ["--arch", "lenet300", "--width", "0.1", "--method", "random", "--out", "run"]
    command = [sys.executable, "-m", "supermask", "search", *words]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices)}
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, env=environment)
    code = """
import sys, supermask
config = supermask.SearchConfig(arch="lenet300", width=0.1, method="random")
print(supermask.search(config, run="run")[0].config.devices, len(supermask.search(config, run="other")))
"""
    plain = {key: value for key, value in os.environ.items() if key != "JAX_NUM_CPU_DEVICES"}
    plain["PYTHONPATH"] = str(Path(supermask.__file__).parent.parent)
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, env=plain
    )
    assert result.stdout == f"{devices} 1\n", result.stderr


def test_a_search_is_not_a_training(finished):
    with pytest.raises(RunFolderError, match="is the run of a search; give --out another name"):
        supermask.train(supermask.TrainConfig(**SMALL | {"epochs": 1}), run=finished)


def test_data_and_callbacks_are_said_once(tmp_path):
    with pytest.raises(supermask.SupermaskError, match="run= is RunOptions, which hold data_dir and callbacks"):
        supermask.search(supermask.SearchConfig(**SMALL), run=RunOptions(str(tmp_path)), callbacks=[watch()])
