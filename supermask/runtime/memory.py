"""How much memory data may take on this machine, and how many processes decode images. No result depends on either."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from supermask.errors import UsageError

LIMIT, WORKERS = "SUPERMASK_RESIDENT_LIMIT", "SUPERMASK_WORKERS"
MOST_WORKERS = 16
"""The largest default number of workers: more than these wait for the disk rather than for a core."""

_CGROUPS = Path("/sys/fs/cgroup")


def resident_limit() -> int | None:
    """Bytes up to which data is kept in memory, if the environment says so; else None.

    Raises:
        UsageError: it says nothing that makes sense.
    """
    named = os.environ.get(LIMIT)
    return parsed(named) if named else None


def workers() -> int:
    """Number of processes that decode images; 0 for threads of this process. By default one less than there are cores.

    Raises:
        UsageError: the environment says nothing that makes sense.
    """
    named = os.environ.get(WORKERS)
    if not named:
        return max(1, min(MOST_WORKERS, cores() - 1))
    if not (named.isdecimal() and int(named) <= 1024):
        raise UsageError(f"workers is {named!r}; it must be a whole number from 0 to 1024")
    return int(named)


@contextmanager
def using(variable: str, value: str) -> Iterator[None]:
    """Let a variable of the environment have a value meanwhile, for this process and those that it starts."""
    before = os.environ.get(variable)
    os.environ[variable] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


def parsed(text: str) -> int:
    """Convert `2GB`, `500MB` or `1.5GiB` to bytes; a bare number is one of bytes.

    Raises:
        UsageError: it is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?) ?(?:([kmgt])(i?))?b?", text.strip().lower())
    if not match:
        raise UsageError(f"resident-limit is {text!r}; it must be bytes with a unit, such as 2GB or 500MB")
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** (" kmgt".index(unit) if unit else 0))


def shown(count: int) -> str:
    """Bytes as people write them: 1.2 GB."""
    for power, unit in (4, "TB"), (3, "GB"), (2, "MB"), (1, "kB"):
        if count >= 1000**power:
            return f"{count / 1000**power:.3g} {unit}"
    return f"{count} bytes"


def half_of_free() -> int:
    """Half of the memory that is free on this machine, or that the process's group may still take."""
    return min(_of_machine(), *_of_groups()) // 2


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _of_machine() -> int:
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # what is free is not known


def _of_groups() -> Iterator[int]:
    """What the process's control groups, as containers and Slurm jobs have, leave free; a lot if there are none."""
    yield 1 << 62
    own = ""
    with suppress(OSError):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = next((line[4:] for line in lines if line.startswith("0::/")), "")
    for folder in dict.fromkeys((_CGROUPS, _CGROUPS / own)):
        with suppress(OSError, ValueError):  # a limit that is not there, or "max"
            yield max(0, int((folder / "memory.max").read_text()) - int((folder / "memory.current").read_text()))
