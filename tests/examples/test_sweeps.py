"""The files of examples/sweeps, each run as its first lines say, with shorter searches and a stand-in for Slurm."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import supermask

ROOT = Path(supermask.__file__).parent.parent
EXAMPLES = ROOT / "examples" / "sweeps"
SRUN = '#!/bin/sh\nexec "$@"\n'
SHORT = {"SUPERMASK_EPOCHS": "1", "SUPERMASK_WIDTH": "0.1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


@pytest.fixture
def run(tmp_path):
    """Runs words in an empty folder, where `supermask` and `srun` are on the path; returns what came of it."""
    tools = tmp_path / "tools"
    tools.mkdir()
    shim = f'#!/bin/sh\nexec "{sys.executable}" -m supermask "$@"\n'
    for name, text in {"supermask": shim, "srun": SRUN}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    environment = {**os.environ, **SHORT, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    def call(*words, **more):
        options = {"cwd": tmp_path, "env": environment | more, "capture_output": True, "text": True, "timeout": 600}
        return subprocess.run(words, check=False, **options)

    return call


def test_the_file_of_a_sweep(run):
    done = run("supermask", "sweep", str(EXAMPLES / "grid.toml"), "--dry-run", "--measure=0", "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len({row["cell"] for row in rows}) == 2 * 3 * 3
    assert {row["density"] for row in rows} == {"0.1", "0.5", "0.9"}


@pytest.mark.slow
def test_the_tasks_of_an_array_share_the_cells(run, tmp_path):
    words = ["bash", str(EXAMPLES / "array.sbatch"), str(EXAMPLES / "grid.toml")]
    one = ["--density=0.3", "--seeds=0", "--method=edge-popup"]
    for task in "01":
        done = run(*words, *one, SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID=task, SLURM_JOB_ID=f"7{task}")
        assert done.returncode == 0, done.stderr
        assert ("starting" in done.stderr) == (task == "0")
        assert "val" in done.stdout
    [result] = (tmp_path / "sweeps" / "job-7").glob("*/result.json")
    assert json.loads(result.read_text())["complete"]


def test_a_task_that_was_stopped_is_queued_again(run, tmp_path):
    for name, text in {"supermask": "exit 75", "scontrol": 'echo "$@" > asked'}.items():
        (tmp_path / "tools" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "tools" / name).chmod(0o755)
    done = run("bash", str(EXAMPLES / "array.sbatch"), "grid.toml", SLURM_ARRAY_JOB_ID="7", SLURM_JOB_ID="71")
    assert done.returncode == 75
    assert (tmp_path / "asked").read_text() == "requeue 71\n"


@pytest.mark.slow
def test_the_loop_ends_with_means_and_a_failure_stops_nothing(run, tmp_path):
    (tmp_path / "runs" / "d0.3-s0").mkdir(parents=True)
    (tmp_path / "runs" / "d0.3-s0" / "something").touch()
    done = run(str(EXAMPLES / "loop.sh"), "--arch=lenet300", "--devices=1", "-q", DENSITIES="0.3", SEEDS="0 1")
    assert done.returncode == 1
    assert "d0.3-s0 exists and is not a run folder" in done.stderr
    assert "d0.3-s1/ticket-s1.safetensors" in done.stdout
    assert "val_accuracy" in done.stdout


def test_the_cluster_is_one_that_ray_takes():
    pytest.importorskip("ray")
    import yaml
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((EXAMPLES / "ray-cluster.yaml").read_text())
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["provider"]["head_ip"] == "head.example.org"
