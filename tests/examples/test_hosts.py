"""The batch script for several nodes, run by a stand-in for srun that starts its processes on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import supermask

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_quickly")]

ROOT = Path(supermask.__file__).parent.parent
SCRIPT = ROOT / "examples" / "slurm" / "hosts.sbatch"
SEARCH = ("--arch", "lenet300", "--width", "0.1", "--seeds", "2", "--epochs", "150")

# Starts all tasks of a step, sends USR1 to the last one, once it is in training, and ends with the highest exit code.
SRUN = """#!{python}
import os, signal, subprocess, sys
words = [sys.executable, "-m", "supermask", *sys.argv[sys.argv.index("supermask") + 1 :]]
tasks = []
for number in range(int(os.environ["SLURM_NTASKS"])):
    own = os.environ | {{"SLURM_PROCID": str(number), "SLURM_STEP_ID": "0"}}
    tasks.append(subprocess.Popen(words, env=own, stderr=None if number else subprocess.PIPE, text=True))
for line in tasks[0].stderr:
    sys.stderr.write(line)
    if "epoch" in line and not os.path.exists("signalled"):
        open("signalled", "w").close()
        tasks[-1].send_signal(signal.SIGUSR1)
sys.exit(max(task.wait() for task in tasks))
"""
SCONTROL = """#!/bin/sh
[ "$1" = requeue ] && touch "requeued-$2"
"""


def test_the_script_shares_a_search_and_is_queued_again(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("srun", SRUN.format(python=sys.executable)), ("scontrol", SCONTROL)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    job = str(os.getpid())  # the port depends on it
    own = {"SLURM_JOB_ID": job, "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "localhost", "JAX_NUM_CPU_DEVICES": "1"}
    environment = os.environ | own | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    def queued():
        words = ["bash", str(SCRIPT), *SEARCH]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        return done.returncode, done

    code, done = queued()
    assert code == 75, done.stderr
    assert done.stderr.count("supermask: stopped by SIGUSR1; the same command goes on from step") == 2
    assert (tmp_path / f"requeued-{job}").exists()
    code, done = queued()
    assert code == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert json.loads((tmp_path / f"runs/job-{job}/result.json").read_text())["complete"]
