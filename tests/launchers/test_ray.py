"""Ray, started here for the tests: calls that end, fail and are stopped; workers, nodes and drivers that are killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import supermask
from supermask.config.sweep import Sweep
from supermask.errors import StoppedError
from supermask.experiments.sweep import Policy, run_sweep
from supermask.runs.sweep import SweepFolder

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
ROOT = Path(supermask.__file__).parent.parent
PROGRAM = """
import json, os, pathlib, signal, sys, time
words = dict(word[2:].split("=", 1) for word in sys.argv[1:] if "=" in word)
out = pathlib.Path(words["out"])
kind = words["arch"]
if out.exists():
    sys.exit(0)
with open(out.parent / "calls", "a") as file:
    file.write(out.name + "\\n")
first = not (out.parent / "seen").exists()
(out.parent / "seen").touch()
if kind == "failing":
    sys.exit("supermask: the reason")
if kind == "slow":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    time.sleep(60)
if kind == "unlucky" and first:
    (out.parent / "pid").write_text(str(os.getpid()))
    time.sleep(600)
if kind == "orphan" and first:
    os.kill(os.getppid(), signal.SIGKILL)
if kind == "long" or (kind == "orphan" and first):
    time.sleep(3)
out.mkdir()
row = {"ticket": "t", "run": str(out), "seed": 0, "val_accuracy": float(os.environ["SUPERMASK_OWN"])}
(out / "config.json").write_text("{}")
(out / "part").write_text(json.dumps({"complete": True, "results": [row]}))
(out / "part").rename(out / "result.json")
"""
DRIVER = """
import sys
from pathlib import Path
from test_ray import swept  # a module that workers have too
outcome = swept(Path(sys.argv[1]), sys.argv[2].split(","), jobs=1)
print(outcome.done)
"""


class Silent:
    nothing_to_lose = True

    def __init__(self, stop=lambda: False):
        self.stop_requested = stop

    def error(self, what):
        return StoppedError(what)

    def __getattr__(self, name):
        return lambda *_: None


def swept(path, archs, *, jobs=2, policy=None, stop=lambda: False):
    from supermask.launchers.ray import Ray, Worker

    class Small(Worker):
        """Calls a small program in place of the command."""

        command = (sys.executable, "-I", "-c", PROGRAM)

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    folder = SweepFolder(path)
    sweep = folder.begin(Sweep("search", {"arch": tuple(archs)}))
    silent = Silent(stop)
    return run_sweep(sweep, folder, Ray(jobs, Small), policy or Policy(), silent, silent)


@pytest.fixture(scope="module")
def cluster():
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def own(monkeypatch):
    monkeypatch.setenv("SUPERMASK_OWN", "0.25")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")


def calls(path):
    return (path / "calls").read_text().split()


def test_every_cell_is_called_once_with_the_variables_of_this_process(cluster, tmp_path):
    outcome = swept(tmp_path, ["a", "b", "failing"])
    assert outcome.done == 2
    assert outcome.failures["arch=failing"]["message"] == "the reason"
    assert sorted(calls(tmp_path)) == ["arch=a", "arch=b", "arch=failing"]
    [row] = SweepFolder(tmp_path).results(next(Sweep("search", {"arch": ("a",)}).cells()))
    assert row["val_accuracy"] == 0.25


def test_a_signal_stops_the_calls(cluster, tmp_path):
    with pytest.raises(StoppedError, match="0 of 2 cells are done"):
        swept(tmp_path, ["slow", "b"], jobs=1, stop=(tmp_path / "calls").exists)
    assert calls(tmp_path) == ["arch=slow"]


def test_a_killed_worker_fails_its_call_and_the_next_one_waits_for_what_it_left(cluster, tmp_path):
    [failure] = swept(tmp_path, ["orphan"]).failures.values()
    assert failure["message"] == "Ray lost the worker, or its node"
    assert not (tmp_path / "arch=orphan").exists()
    outcome = swept(tmp_path, ["orphan"], policy=Policy(retry=1))
    assert outcome.done == 1
    assert calls(tmp_path) == ["arch=orphan"]  # its process went on


def test_a_driver_that_is_killed_may_start_again(cluster, tmp_path):
    """Ray ends the workers of such a driver; whether the call ends with them or not, the next driver has its result."""
    path = f"{ROOT}{os.pathsep}{Path(__file__).parent}"
    environment = {**os.environ, "PYTHONPATH": path, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    words = [sys.executable, "-c", DRIVER, str(tmp_path / "grid"), "long,b"]
    with subprocess.Popen(words, env=environment) as driver:
        while not (tmp_path / "grid" / "calls").exists():
            time.sleep(0.02)
        driver.kill()
    again = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert again.stdout.split() == ["2"]
    assert set(calls(tmp_path / "grid")) == {"arch=b", "arch=long"}


@pytest.mark.slow
def test_a_lost_node_costs_its_call_one_try(tmp_path):
    """Its process is killed before Ray knows of the node, so the next call is sent there, and never begins."""
    from ray.cluster_utils import Cluster

    if ray.is_initialized():
        ray.shutdown()
    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    lost = machines.add_node(num_cpus=1)
    ray.init(machines.address, log_to_driver=False, logging_level="ERROR")

    def lose() -> bool:
        """Once the call is under way there; another node comes when Ray knows. Never asks the sweep to stop."""
        process = tmp_path / "pid"
        if process.exists() and lost in machines.worker_nodes:
            machines.remove_node(lost, allow_graceful=False)
            os.kill(int(process.read_text()), signal.SIGKILL)  # here it would outlive its node
        elif process.exists() and not machines.worker_nodes and sum(node["Alive"] for node in ray.nodes()) == 1:
            machines.add_node(num_cpus=1)
        return False

    try:
        outcome = swept(tmp_path, ["unlucky"], jobs=1, policy=Policy(retry=1), stop=lose)
        assert outcome.done == 1
        assert calls(tmp_path) == ["arch=unlucky", "arch=unlucky"]
    finally:
        ray.shutdown()
        machines.shutdown()
