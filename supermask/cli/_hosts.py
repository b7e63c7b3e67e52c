"""The options that let several processes work on one run."""

from __future__ import annotations

import functools
from typing import Any

from supermask.cli import _options as opt
from supermask.errors import UsageError
from supermask.runtime.slurm import of_slurm
from supermask.runtime.team import Hosts


def hosts_options(command: opt.F) -> opt.F:
    """Add the options; the command gets them as `hosts`, and all processes but process 0 are quiet."""

    @functools.wraps(command)
    def with_hosts(*args: Any, **values: Any) -> Any:
        hosts = _hosts(*(values.pop(name) for name in ("distributed", "coordinator", "processes", "process")))
        if hosts is not None and values["dry_run"]:
            raise UsageError("--dry-run is for one process: leave out --distributed or --coordinator")
        quiet = values.pop("quiet") or (hosts is not None and hosts.process > 0)
        return command(*args, hosts=hosts, quiet=quiet, **values)

    decorated: opt.F = with_hosts
    for decorate in reversed(
        (
            opt.option(
                "--distributed",
                is_flag=True,
                help="Share the run with the other processes of this Slurm step, on all its nodes.",
                group="machine",
            ),
            opt.option(
                "--coordinator",
                metavar="HOST:PORT",
                help="Share the run with other processes, which have the same words but for --process; process 0 is on "
                "this host and listens at this port.",
                group="machine",
            ),
            opt.option("--processes", type=int, metavar="N", help="How many share the run.", group="machine"),
            opt.option("--process", type=int, metavar="I", help="Which of them this is, from 0.", group="machine"),
        )
    ):
        decorated = decorate(decorated)
    return decorated


def _hosts(distributed: bool, coordinator: str | None, processes: int | None, process: int | None) -> Hosts | None:
    given = {"--coordinator": coordinator, "--processes": processes, "--process": process}
    missing = [name for name, value in given.items() if value is None]
    if distributed:
        if len(missing) < len(given):
            raise UsageError("--distributed takes everything from Slurm: leave out --coordinator and its like")
        return of_slurm()
    if len(missing) == len(given):
        return None
    if coordinator is None or processes is None or process is None:
        raise UsageError(f"--coordinator, --processes and --process belong together: {', '.join(missing)} is missing")
    return Hosts(coordinator, processes, process)
