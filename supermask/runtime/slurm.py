"""What Slurm tells a process of a job step about the others."""

from __future__ import annotations

import os
import re

from supermask.errors import UsageError
from supermask.runtime.team import Hosts

NAMES = ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_STEP_NODELIST")
PORTS = range(61440, 65536)
"""One of them is taken, by the number of the job and its step."""


def of_slurm() -> Hosts:
    """The processes of this step; the first node's process 0 leads.

    Raises:
        UsageError: this is no process of a step, or its variables make no sense.
    """
    missing = [name for name in NAMES if not os.environ.get(name)]
    if missing:
        raise UsageError(
            f"--distributed reads Slurm's variables, and {', '.join(missing)} is not set: start it by srun, or give "
            "--coordinator, --processes and --process"
        )
    job, count, process = (_number(name) for name in NAMES[:3])
    step = os.environ.get("SLURM_STEP_ID", "0")
    port = PORTS[(16 * job + (int(step) if step.isdecimal() else 0)) % len(PORTS)]
    return Hosts(f"{first_node(os.environ[NAMES[3]])}:{port}", count, process)


def first_node(nodes: str) -> str:
    """The first of a list such as `node[007-015,020],other`.

    Raises:
        UsageError: it has none.
    """
    match = re.match(r"([^\[\],]+)(?:\[(\w+)[^\]]*\]([^,]*))?", nodes)
    if match is None:
        raise UsageError(f"SLURM_STEP_NODELIST is {nodes!r}; it must be a list such as node[1-4]")
    return "".join(part or "" for part in match.groups())


def _number(name: str) -> int:
    text = os.environ[name]
    if not text.isdecimal():
        raise UsageError(f"{name} is {text!r}; it must be a whole number")
    return int(text)
