"""The array job, submitted to a stand-in for sbatch that runs its tasks one after the other."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from supermask.config.sweep import Sweep
from supermask.errors import SupermaskError, UsageError
from supermask.launchers.slurm import submit
from supermask.runs.sweep import SweepFolder

SBATCH = """#!/bin/bash
grep '^#SBATCH' "$1" > head
for task in $(seq 0 $(sed -n 's/#SBATCH --array=0-//p' "$1")); do
    SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task bash "$1" 2>> said
    echo "$task $?" >> codes
done
echo "Submitted batch job 7"
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder in which sbatch runs jobs at once, scontrol takes notes, and the command is a small program."""
    programs = {"sbatch": SBATCH, "scontrol": '#!/bin/bash\necho "$@" >> requeued\n'}
    programs["python"] = (
        '#!/bin/bash\necho "${@:3}" >> calls\nif [ -e busy ]; then exec sleep 60; fi\nexit $(cat code)\n'
    )
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code").write_text("0")
    SweepFolder(tmp_path / "grid").begin(Sweep("search", {"seed": ("0", "1")}))
    return tmp_path


def test_each_task_sweeps_the_folder(cluster):
    said = submit(Path("grid"), 3, ["--retry=1"], ["--gres=gpu:1", "--time=60"])
    assert said == "Submitted batch job 7"
    assert (cluster / "calls").read_text().splitlines() == [f"sweep {cluster / 'grid'} --retry=1"] * 3
    assert (cluster / "codes").read_text() == "0 0\n1 0\n2 0\n"
    assert {"#SBATCH --gres=gpu:1", "#SBATCH --time=60", "#SBATCH --requeue"} <= set(
        (cluster / "head").read_text().splitlines()
    )
    assert not (cluster / "requeued").exists()


@pytest.mark.parametrize("code", [1, 75])
def test_only_a_task_that_was_stopped_is_queued_again(cluster, code):
    (cluster / "code").write_text(str(code))
    submit(Path("grid"), 2)
    assert (cluster / "codes").read_text() == f"0 {code}\n1 {code}\n"
    expected = "requeue 7_0\nrequeue 7_1\n" if code == 75 else None
    assert ((cluster / "requeued").read_text() if expected else None) == expected


def test_the_signal_of_slurm_reaches_the_sweep(cluster):
    """Slurm signals the script's processes; a shell that waits must hand the signal on, and wait for what is saved."""
    submit(Path("grid"), 1)
    (cluster / "busy").touch()
    task = subprocess.Popen(["bash", "grid/.cells/array.sh"], env={**os.environ, "SLURM_ARRAY_TASK_ID": "0"})
    while len((cluster / "calls").read_text().splitlines()) < 2:
        time.sleep(0.02)
    task.send_signal(signal.SIGTERM)
    assert task.wait(timeout=30) == 128 + signal.SIGTERM  # of the sleep that stands for the sweep


def test_without_slurm_or_if_it_refuses_one_line_says_so(cluster, monkeypatch):
    (cluster / "bin" / "sbatch").write_text("#!/bin/bash\necho 'invalid partition' >&2\nexit 1\n")
    with pytest.raises(SupermaskError, match="invalid partition"):
        submit(Path("grid"), 1)
    monkeypatch.setenv("PATH", str(cluster / "nowhere"))
    with pytest.raises(UsageError, match="no sbatch"):
        submit(Path("grid"), 1)
