"""The options that say where the calls of a sweep are executed."""

from __future__ import annotations

import click

from supermask.cli import _options as opt
from supermask.errors import UsageError
from supermask.experiments.launcher import Launcher
from supermask.launchers.local import Local

LAUNCHERS = ("local", "ray")


def launch_options(command: opt.F) -> opt.F:
    """Add the options `jobs`, `devices` and `launcher`."""
    for decorate in (
        opt.option("--devices", metavar="0,1,...", help="GPUs; each call gets one of them.", group="machine"),
        opt.option(
            "--launcher",
            type=opt.Names(LAUNCHERS),
            default="local",
            show_default=True,
            help="Run the calls on this machine, or on a Ray cluster, named by RAY_ADDRESS or started here.",
            group="machine",
        ),
        opt.option(
            "--jobs",
            type=click.IntRange(1),
            help="Calls at a time.  [default: one per GPU of --devices or of the Ray cluster, or one per node]",
            group="machine",
        ),
    ):
        command = decorate(command)
    return command


def local(jobs: int | None, devices: str | None) -> Local:
    """Processes on this machine; `devices` as typed."""
    gpus = [name.strip() for name in (devices or "").split(",") if name.strip()]
    return Local(jobs or max(1, len(gpus)), gpus)


def launcher(name: str, jobs: int | None, devices: str | None) -> Launcher:
    """What executes calls, by the values of the options.

    Raises:
        UsageError: the options do not go together, or Ray is not installed.
    """
    if name == "local":
        return local(jobs, devices)
    if devices:
        raise UsageError("--devices names GPUs of this machine, and Ray gives each call one of its own: leave it out")
    from supermask.launchers.ray import Ray

    return Ray(jobs)
