"""An array job of Slurm, whose tasks share the cells of a sweep."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from supermask.errors import SupermaskError, UsageError
from supermask.storage.atomic import write_atomic

SCRIPT = """#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
#SBATCH --output={log}
{directives}
# Each task takes cells that no other one has. When its time is up, it saves checkpoints and is queued again.
cd {here} || exit 1
called= asked=
trap 'asked=1; [ -z "$called" ] || kill -TERM $called' TERM
{command} &
called=$!
[ -z "$asked" ] || kill -TERM $called
while :; do
    wait $called
    code=$?
    kill -0 $called 2>/dev/null || break
done
if [ $code -eq 75 ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit $code
"""


def submit(folder: Path, tasks: int, sweep_options: Sequence[str] = (), sbatch_options: Sequence[str] = ()) -> str:
    """Write the script of an array job into the folder of a sweep, submit it and return what sbatch says.

    Args:
        tasks: number of tasks; each is one call of `supermask sweep FOLDER`.
        sweep_options: further words of this call.
        sbatch_options: lines for the head of the script, such as `--gres=gpu:1`.

    Raises:
        UsageError: there is no sbatch here.
        SupermaskError: sbatch refuses the job; the script stays.
    """
    if shutil.which("sbatch") is None:
        raise UsageError("there is no sbatch here: --slurm is for a machine that submits jobs to Slurm")
    folder = folder.absolute()
    script = folder / ".cells" / "array.sh"
    call = [sys.executable, "-m", "supermask", "sweep", str(folder), *sweep_options]
    text = SCRIPT.format(
        name=f"supermask-{folder.name}"[:64],
        last=tasks - 1,
        log=shlex.quote(str(folder / ".cells" / "task-%a.log")),
        directives="".join(f"#SBATCH {line}\n" for line in sbatch_options),
        here=shlex.quote(os.getcwd()),
        command=shlex.join(call),
    )
    write_atomic(script, text.encode())
    done = subprocess.run(["sbatch", str(script)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SupermaskError(f"sbatch refused {script}: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()
