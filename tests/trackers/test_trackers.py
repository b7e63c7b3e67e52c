"""Trackers get what metrics.jsonl gets; what goes wrong in them is said once and ends nothing."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from supermask import Metrics, SearchConfig
from supermask.cli import group
from supermask.cli._trackers import HELP, Trackers
from supermask.errors import UsageError

SEARCH = ["search", "--arch", "lenet300", "--width", "0.1", "--epochs", "2", "--seeds", "2", "--out", "run"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))


def searched(*words):
    result = CliRunner().invoke(group, [*SEARCH, *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]


def test_every_file_has_its_flag():
    import supermask.trackers

    files = Path(supermask.trackers.__file__).parent.glob("[!_]*.py")
    assert {file.stem for file in files} == set(HELP)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of protobuf
def test_tensorboard_has_every_metric_of_every_epoch():
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    rows = searched("--tensorboard")
    [path] = Path("run").glob("events.out.tfevents*")
    data, found = path.read_bytes(), {}
    while data:  # length, its checksum, the event, its checksum
        size = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + size])
        data = data[16 + size :]
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found[value.tag, event.step] = value.simple_value
    assert len(found) == 4 * 5
    for row in rows:
        for key in ("loss", "train_accuracy", "val_accuracy", "density", "images_per_second"):
            assert found[f"seed{row['seed']}/{key}", row["epoch"]] == pytest.approx(row[key], rel=1e-6)


@pytest.mark.parametrize("name", ["wandb", "trackio"])
@pytest.mark.filterwarnings("ignore")
def test_the_others_take_a_search(name):
    pytest.importorskip(name)
    result = CliRunner().invoke(group, [*SEARCH, f"--{name}"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "failed" not in result.stderr
    folder = Path("wandb" if name == "wandb" else "trackio")
    assert any(path.is_file() for path in folder.rglob("*"))


def test_a_tracker_that_fails_is_left_and_the_search_goes_on():
    class Failing:
        def __init__(self, name, folder, config):
            self.rows = 0

        def log(self, row):
            self.rows += 1
            raise OSError("no\nroute to host")

        def close(self):
            raise AssertionError("it was left")

    said = []
    trackers = Trackers((), said.append)
    trackers._modules = {"wandb": type("module", (), {"Tracker": Failing})}
    trackers.on_begin(Path("run"), SearchConfig())
    one = np.ones(1)
    for epoch in (1, 2):
        trackers.on_epoch(Metrics(epoch, (0,), one, one, one, one, one))
    trackers.on_end()
    assert said == ["warning: wandb failed and is not used from here on: no route to host"]


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.delitem(sys.modules, "supermask.trackers.tensorboard", raising=False)
    with pytest.raises(UsageError, match=r"pip install 'supermask\[tensorboard\]'"):
        Trackers(["tensorboard"], print)
