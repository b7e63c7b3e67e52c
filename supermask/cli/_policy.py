"""The options that say when a run saves checkpoints and when it stops."""

from __future__ import annotations

import re

from supermask.cli import _options as opt
from supermask.errors import UsageError
from supermask.experiments.options import CheckpointPolicy


def policy_options(command: opt.F) -> opt.F:
    """Add the options for checkpoints and the time limit."""
    for decorate in (
        opt.option(
            "--time-limit", metavar="TIME", help="Save a checkpoint and exit with 75 after this time: 90s, 55m, 2h."
        ),
        opt.option(
            "--checkpoint-every",
            metavar="TIME",
            default="10m",
            show_default=True,
            help="Save a checkpoint this often: 90s, 10m, 2h, or 5e for five epochs.",
        ),
    ):
        command = decorate(command)
    return command


def policy(text: str) -> CheckpointPolicy:
    """Parse when to save checkpoints: `10m`, or `5e` for every five epochs."""
    if re.fullmatch(r"[1-9]\d*e", text):
        return CheckpointPolicy(epochs=int(text[:-1]))
    return CheckpointPolicy(seconds=seconds("checkpoint-every", text, "or epochs, such as 5e"))


def seconds(name: str, text: str, more: str = "") -> float:
    """Convert a time such as `90s`, `55m` or `2h` to seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?)([smh])", text)
    if not match or not float(match[1]):
        raise UsageError(f"{name} is {text!r}; it must be a time such as 90s, 55m or 2h {more}".rstrip())
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
