"""`sweep --dry-run`: which cells there are, and what they are expected to take."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import supermask
from supermask.cli import main
from supermask.config import SearchConfig
from supermask.config.lottery import LotteryConfig
from supermask.experiments.estimate import Speed
from supermask.launchers.local import Local

pytestmark = pytest.mark.usefixtures("compiled_quickly")
ROOT = Path(supermask.__file__).parent.parent
MEASURING = """
import json, sys
calls = json.load(sys.stdin)
if any("--arch=conv2" in words for words in calls):
    sys.exit("supermask: the reason")
epochs = [next((int(word[9:]) for word in words if word.startswith("--epochs=")), 1) for words in calls]
seconds = [10 + 5 * count for count in epochs]
print(json.dumps({"seconds": seconds, "compile_seconds": 4, "memory_bytes": 3 * 10**9}))
"""


@pytest.fixture
def dry_run(tmp_path, monkeypatch, capsys):
    """Calls `sweep --dry-run` and returns (rows, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def call(*words):
        with pytest.raises(SystemExit) as ended:
            main(["sweep", "--dry-run", "--json", *words])
        assert ended.value.code == 0
        said = capsys.readouterr()
        return [json.loads(line) for line in said.out.splitlines()], said.err

    return call


@pytest.fixture
def programs(monkeypatch):
    """Small programs stand for what measures; their calls."""
    calls = []

    def spawn(self, slot, words, **settings):
        calls.append(words)
        return subprocess.Popen([sys.executable, "-I", "-c", MEASURING], **settings)

    monkeypatch.setattr(Local, "spawn", spawn)
    return calls


def test_cells_that_share_a_program_share_a_measurement(dry_run, programs):
    rows, said = dry_run("--seeds=0-1", "--density=0.1,0.5", "--epochs=1,3", "--lr=0.1", "--jobs=2")
    assert len(programs) == 1
    assert len(rows) == 8
    for row in rows:  # only the first cell of each length compiles
        assert row["seconds"] == 10 + 5 * int(row["epochs"]) - 4 * (row["seed"] == "1" or row["density"] == "0.5")
    assert {row["memory_bytes"] for row in rows} == {3 * 10**9}
    assert "expected: 68 s for 8 cells, 2 at a time; up to 3.00 GB each (measured: 1 program)" in said


def test_one_long_cell_is_as_long_as_the_sweep(dry_run, programs):
    _, said = dry_run("--epochs=1,99", "--jobs=2")
    assert "expected: 8.4 min for 2 cells, 2 at a time" in said


def test_what_is_not_measured_is_said(dry_run, programs):
    words = ("--arch=lenet300,conv2,conv4,conv6", "--seed=0")
    rows, said = dry_run(*words, "--measure=3")
    assert [row["arch"] for row in rows if "seconds" in row] == ["lenet300", "conv4"]
    assert "not measured: arch=conv2,seed=0: the reason" in said
    assert "expected: 30 s for 2 cells" in said
    assert "not in that: 2 cells of 2 other programs" in said
    programs.clear()
    rows, said = dry_run(*words, "--measure=0")
    assert programs == []
    assert "expected" not in said


def test_many_cells_are_only_listed_unless_that_is_asked_for(dry_run, programs):
    rows, said = dry_run("--seeds=0-1000")
    assert len(rows) == 1001
    assert programs == []
    assert "only listed" in said
    assert "expected: 3.1 h for 1,001 cells" in dry_run("--seeds=0-1000", "--measure=1")[1]


def test_measuring_is_about_a_dry_run(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["sweep", "--seed=0", "--measure=1"])
    assert ended.value.code == 2
    assert "--dry-run" in capsys.readouterr().err


def test_a_run_is_as_long_as_its_trainings_one_after_the_other():
    speed = Speed(start_seconds=3.0, compile_seconds=1.0, epoch_seconds=2.0, together=2, memory_bytes=1)
    assert speed.seconds(SearchConfig(epochs=5)) == 3 + 5 * 2
    assert speed.seconds(SearchConfig(epochs=5, seeds=3)) == 3 + 2 * 5 * 2
    assert speed.seconds(SearchConfig(method="magnitude", epochs=0)) == 3
    lottery = LotteryConfig(epochs=5, rounds=2, control="redraw,noise")
    assert speed.seconds(lottery) == 3 + (2 + 2 * 3) * 5 * 2


@pytest.mark.parametrize("command", ["search", pytest.param("lottery", marks=pytest.mark.slow)])
def test_a_program_is_really_measured(dry_run, command):
    fixed = ("--arch=lenet300", "--width=0.1", "--devices=1")
    [one, more], said = dry_run(f"--command={command}", "--epochs=1,1001", "--", *fixed)
    assert "1 at a time" in said
    assert 10**8 < one["memory_bytes"] == more["memory_bytes"] < 10**10
    assert 0 < one["seconds"] < more["seconds"]
