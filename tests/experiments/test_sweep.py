"""Sweeps: every cell once, whatever fails, stops or is killed. Most calls here are small programs, not searches."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import supermask
from supermask.cli import main
from supermask.config.sweep import Cell, Sweep
from supermask.errors import RunFolderError, StoppedError
from supermask.experiments.sweep import Policy, run_sweep
from supermask.launchers.local import Local
from supermask.runs.sweep import SweepFolder

ROOT = Path(supermask.__file__).parent.parent
CALL = """
import json, os, pathlib, signal, sys, time
words = dict(word[2:].split("=", 1) for word in sys.argv[1:] if "=" in word)
out = pathlib.Path(words["out"])
kind = words.get("arch", "good")
if kind == "slow":
    signal.signal(signal.SIGTERM, lambda *_: (out.mkdir(exist_ok=True), sys.exit(75)))
with open(out.parent / "calls", "a") as file:
    file.write(out.name + "\\n")
if kind == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if kind == "failing" or kind == "wrong":
    print("note: not this", "supermask: the reason", sep="\\n", file=sys.stderr)
    sys.exit(2 if kind == "wrong" else 5)
if kind == "slow":
    time.sleep(60)
time.sleep(float(words.get("density", 0)))
part = out.with_name(out.name + ".part")
part.mkdir()
row = {"ticket": str(out / "t"), "run": str(out), "seed": int(words.get("seed", 0)), "val_accuracy": 0.5}
(part / "result.json").write_text(json.dumps({"complete": True, "results": [row]}))
(part / "config.json").write_text("{}")
part.rename(out)
"""


class Programs(Local):
    """Starts CALL in place of the command."""

    def start(self, slot, arguments, log, lock):
        words = [sys.executable, "-I", "-c", CALL, *arguments]
        with log.open("wb") as file:
            process = subprocess.Popen(words, stderr=file, pass_fds=(lock,), start_new_session=True)
        return type("Job", (), {"poll": lambda _: process.poll(), "stop": lambda _: process.terminate()})()


class Events:
    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        return lambda cell, *more: self.told.append((name, cell.name, *more))

    def of(self, name):
        return [event[1] for event in self.told if event[0] == name]


class Asked:
    """Stands for a signal that comes when `when` says so."""

    nothing_to_lose = True

    def __init__(self, when=lambda: False):
        self.stop_requested = when

    def error(self, what):
        return StoppedError(what)


def swept(path, axes, *, jobs=2, policy=None, stopping=None, words=()):
    sweep, folder, events = Sweep("search", axes, words), SweepFolder(path), Events()
    sweep = folder.begin(sweep)
    return run_sweep(sweep, folder, Programs(jobs), policy or Policy(), events, stopping or Asked()), events


def calls(path):
    return (path / "calls").read_text().split()


def test_every_cell_is_called_once_and_again_only_if_it_is_not_finished(tmp_path):
    axes = {"arch": ("good", "failing"), "seed": ("0", "1", "2")}
    outcome, events = swept(tmp_path, axes)
    assert (outcome.done, sorted(outcome.failures)) == (3, [f"arch=failing,seed={i}" for i in range(3)])
    assert outcome.failures["arch=failing,seed=1"]["message"] == "the reason"
    assert sorted(calls(tmp_path)) == sorted({f"arch={arch},seed={i}" for arch in axes["arch"] for i in range(3)})
    outcome, events = swept(tmp_path, axes)
    assert outcome.done == 3
    assert len(events.of("on_start")) == 3
    assert len(calls(tmp_path)) == 9


def test_a_killed_call_and_a_failing_one_do_not_stop_the_others(tmp_path):
    outcome, _ = swept(tmp_path, {"arch": ("killed", "failing", "good")}, jobs=1)
    assert outcome.done == 1
    assert outcome.failures["arch=killed"]["message"] == "killed by SIGKILL (out of memory?)"


def test_retry_calls_again_what_may_succeed(tmp_path):
    outcome, _ = swept(tmp_path, {"arch": ("killed", "failing", "wrong")}, policy=Policy(retry=2))
    assert sorted(calls(tmp_path)) == ["arch=failing"] * 3 + ["arch=killed"] * 3 + ["arch=wrong"]
    assert len(outcome.failures) == 3
    assert {outcome.failures[name]["attempts"] for name in ("arch=failing", "arch=killed")} == {3}


def test_only_failed_calls_nothing_else(tmp_path):
    swept(tmp_path, {"arch": ("failing", "good"), "seed": ("0",)})
    more = {"arch": ("failing", "good"), "seed": ("0", "1")}
    _, events = swept(tmp_path, more, policy=Policy(only_failed=True))
    assert events.of("on_start") == ["arch=failing,seed=0"]


def test_fail_fast_stops_the_others_too(tmp_path):
    began = time.monotonic()
    axes = {"arch": ("slow", "failing", "good")}
    outcome, events = swept(tmp_path, axes, policy=Policy(fail_fast=True))
    assert time.monotonic() - began < 30
    assert list(outcome.failures) == ["arch=failing"]
    assert events.of("on_stopped") == ["arch=slow"]
    assert "arch=good" not in calls(tmp_path)


def test_a_signal_stops_all_calls_and_the_next_sweep_goes_on(tmp_path):
    axes = {"arch": ("slow", "good")}
    asked = Asked(lambda: (tmp_path / "arch=good").exists() and "arch=slow" in calls(tmp_path))
    with pytest.raises(StoppedError, match="1 of 2 cells are done"):
        swept(tmp_path, axes, stopping=asked)
    folder = SweepFolder(tmp_path)
    slow, good = Sweep("search", axes).cells()
    assert folder.begun(slow)
    assert folder.results(slow) is None
    assert folder.results(good) is not None


PROCESS = """
import importlib.util, json, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("sweeping", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
axes = {name: tuple(values) for name, values in json.loads(sys.argv[3]).items()}
outcome, _ = module.swept(Path(sys.argv[2]), axes, jobs=1)
print(outcome.done, len(outcome.failures))
"""


def sweeping(path, axes):
    """A process of its own that sweeps a folder."""
    words = [sys.executable, "-c", PROCESS, __file__, str(path), json.dumps(axes)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=env)


def test_sweeps_share_a_folder_without_a_conflict(tmp_path):
    """Eight processes, each of which would call all cells."""
    axes = {"seed": tuple(map(str, range(24))), "density": ("0.05",)}
    SweepFolder(tmp_path).begin(Sweep("search", axes))
    said = [process.communicate(timeout=300)[0] for process in [sweeping(tmp_path, axes) for _ in range(8)]]
    assert said == ["24 0\n"] * 8
    assert sorted(calls(tmp_path)) == sorted(cell.name for cell in Sweep("search", axes).cells())


def test_a_call_outlives_its_killed_sweep_and_is_not_called_twice(tmp_path):
    axes = {"density": ("1.5", "0")}
    with sweeping(tmp_path, axes) as process:
        while not (tmp_path / "calls").exists():
            time.sleep(0.02)
        process.kill()
    outcome, _ = swept(tmp_path, axes)
    assert (outcome.done, outcome.failures) == (2, {})
    assert sorted(calls(tmp_path)) == ["density=0", "density=1.5"]


def test_values_may_be_added_and_nothing_else_may_change(tmp_path):
    swept(tmp_path, {"seed": ("0", "1")}, words=("--epochs=1",))
    outcome, events = swept(tmp_path, {"seed": ("1", "2")}, words=("--epochs=1",))
    assert events.of("on_start") == ["seed=2"]
    assert outcome.done == 3
    for axes, words in (({"seed": ("0",)}, ("--epochs=2",)), ({"density": ("0.5",)}, ("--epochs=1",))):
        with pytest.raises(RunFolderError, match="belongs to another sweep"):
            swept(tmp_path, axes, words=words)


def test_calls_share_the_cores(tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    for jobs in {1, len(cores)}:
        launcher = Local(jobs)
        with (tmp_path / "lock").open("w") as lock:
            started = [launcher.start(i, ["--version"], tmp_path / f"{i}", lock.fileno()) for i in range(jobs)]
            found = [os.sched_getaffinity(job._process.pid) for job in started]
            assert sorted(core for own in found for core in own) == cores
            assert [job._process.wait() for job in started] == [0] * jobs
    assert sorted(os.sched_getaffinity(0)) == cores


def test_the_command_sweeps_searches_and_results_summarises_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = ["sweep", "--density=0.2,0.6", "--seeds=0-1", "--out=grid", "--json", "--"]
    fixed = ["--arch=lenet300", "--width=0.1", "--epochs=1", "--devices=1"]
    with pytest.raises(SystemExit) as ended:
        main([*words, *fixed])
    assert ended.value.code == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(row["cell"] for row in rows) == sorted(
        f"density={d},seed={s}" for d in ("0.2", "0.6") for s in (0, 1)
    )
    with pytest.raises(SystemExit):
        main(["results", "grid", "--json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for row, density in zip(found, (0.2, 0.6), strict=True):
        values = [one["val_accuracy"] for one in rows if one["cell"].startswith(f"density={density}")]
        assert row["density"] == density
        assert row["n"] == 2
        assert row["mean"] == pytest.approx(sum(values) / 2)
        assert row["ci95"] == pytest.approx(12.7062 * abs(values[0] - values[1]) / 2, rel=1e-4)


def test_a_cell_that_diverges_and_those_out_of_memory_do_not_stop_the_others(tmp_path, monkeypatch, capsys):
    """Real trainings, the good one last: no machine has the memory of the first two."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    axes = ["--command=train", "--width=300000,0.1", "--lr=1e9,0.001", "--out=grid", "--json"]
    with pytest.raises(SystemExit) as ended:
        main(["sweep", *axes, "--", "--arch=lenet300", "--optimizer=sgd", "--epochs=1", "--devices=1"])
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert [json.loads(line)["cell"] for line in said.out.splitlines()] == ["width=0.1,learning-rate=0.001"]
    names = [f"width={width},learning-rate={rate}" for width in ("300000", "0.1") for rate in ("1e9", "0.001")]
    found = [SweepFolder(Path("grid")).failure(Cell(name, {})) for name in names]
    assert [one and one["exit_code"] for one in found] == [1, 1, 5, None]
    assert "out of memory" in found[0]["message"]
    assert "the loss of seed 0" in found[2]["message"]
    assert all(said.err.count(f"failed: {name}: ") == 1 for name in names[:3])
    assert "3 of 4 cells failed" in said.err


def test_options_of_the_machine_hold_for_every_call_and_are_no_axes(tmp_path, monkeypatch, capsys):
    """They say how a run is executed: another value is the same sweep."""
    monkeypatch.chdir(tmp_path)
    seen = []

    class Seeing(Programs):
        def start(self, slot, arguments, log, lock):
            names = "SUPERMASK_WORKERS", "SUPERMASK_RESIDENT_LIMIT"
            seen.append((*(os.environ.get(name) for name in names), *arguments[1:-2]))
            return super().start(slot, arguments, log, lock)

    monkeypatch.setattr("supermask.cli._launch.Local", Seeing)
    for seeds, workers in ("0", "2"), ("0,1", "3"):
        with pytest.raises(SystemExit) as ended:
            main(["sweep", f"--seed={seeds}", f"--workers={workers}", "--resident-limit=1GB", "--out=grid"])
        assert ended.value.code == 0
    assert seen == [("2", "1GB", "--seed=0"), ("3", "1GB", "--seed=1")]
    assert "SUPERMASK_WORKERS" not in os.environ
    capsys.readouterr()
    for name in ("workers", "out", "device", "force", "--lr"):
        Path("grid.toml").write_text(f'[axes]\n"{name}" = ["1", "2"]\n')
        with pytest.raises(SystemExit) as ended:
            main(["sweep", "grid.toml"])
        assert ended.value.code == 2
        assert f"unknown axis {name!r}" in capsys.readouterr().err


def test_wrong_values_are_refused_before_anything_is_called(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words, said in (
        (["--arch=lenet300,lenet301"], "unknown arch"),
        (["--density=0.5,x"], "not a valid float"),
        (["--command=train", "--density=0.5"], "No such option"),
        ([], "there is no axis"),
        (["nowhere.toml"], "nowhere.toml"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["sweep", *words])
        assert ended.value.code in (2, 3)
        assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
