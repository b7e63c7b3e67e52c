"""The batch scripts of examples/slurm, run by a stand-in for Slurm: `sbatch` runs a job, and again if it asks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import supermask
from supermask.ticket import Ticket

ROOT = Path(supermask.__file__).parent.parent
SCRIPTS = ROOT / "examples" / "slurm"
SEARCH = ("--arch", "lenet300", "--width", "0.5", "--epochs", "300")

# Runs a job and sends it USR1 once it is in training, the first time only; requeue leaves a mark for sbatch.
SRUN = """#!{python}
import os, signal, subprocess, sys, threading
words = [sys.executable, "-m", "supermask", *sys.argv[2:]]
job = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, pipesize=4096)  # it waits for us after some 50 lines
for line in job.stderr:
    sys.stderr.write(line)
    if "epoch" in line and not os.path.exists("signalled-" + os.environ["MARK"]):
        open("signalled-" + os.environ["MARK"], "w").close()
        job.send_signal(signal.SIGUSR1)
sys.exit(job.wait())
"""
SCONTROL = """#!/bin/sh
[ "$1" = requeue ] && touch "requeued-$2"
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder to work in, with the two commands on the path."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("srun", SRUN.format(python=sys.executable)), ("scontrol", SCONTROL)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return work


def sbatch(script, job, words, **variables):
    """Run a job to its end, again whenever it asks for that; the exit codes of all its runs."""
    codes, requeued = [], Path(f"requeued-{job}")
    environment = {**os.environ, "SLURM_JOB_ID": str(job), "MARK": str(job), **variables}
    while not codes or requeued.exists():
        requeued.unlink(missing_ok=True)
        command = ["bash", str(SCRIPTS / script), *words]
        codes.append(subprocess.run(command, env=environment, capture_output=True, timeout=600).returncode)
        assert len(codes) < 5
    return codes


@pytest.mark.slow  # the batch scripts alone
def test_a_signalled_search_is_queued_again_and_ends_as_if_nothing_had_been(slurm):
    assert sbatch("search.sbatch", 7, SEARCH) == [75, 0]
    Path("signalled-8").touch()  # this one is left alone
    assert sbatch("search.sbatch", 8, SEARCH) == [0]
    one, other = (Path(f"runs/job-{job}/ticket-s0.safetensors").read_bytes() for job in (7, 8))
    assert one == other
    assert json.loads(Path("runs/job-7/result.json").read_text())["complete"]


@pytest.mark.slow
def test_a_task_of_an_array_searches_its_seed(slurm):
    own = {"SLURM_ARRAY_JOB_ID": "20", "SLURM_ARRAY_TASK_ID": "3"}
    assert sbatch("seeds.sbatch", 24, SEARCH, **own) == [75, 0]
    assert Ticket.load("runs/job-20-seed-3/ticket-s3.safetensors").config.seed == 3
