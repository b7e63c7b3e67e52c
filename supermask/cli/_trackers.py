"""The trackers that a search reports to, beside its metrics.jsonl: what goes wrong in them never ends a search."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from supermask.cli import _options as opt
from supermask.errors import UsageError, one_line

HELP = {
    "tensorboard": "Write TensorBoard events into the run folder.",
    "wandb": "Report to Weights & Biases.",
    "trackio": "Report to Trackio.",
}
PACKAGES = {"tensorboard": "tensorboardX"}


def tracker_options(command: opt.F) -> opt.F:
    """One flag for each of trackers/."""
    for name, text in reversed(HELP.items()):
        command = opt.option(f"--{name}", is_flag=True, help=text)(command)
    return command


class Trackers:
    """Those that were asked for; each that fails is left with one line."""

    def __init__(self, wanted: dict[str, bool]) -> None:
        self._modules = {name: _module(name) for name in HELP if wanted.get(name)}
        self._open: dict[str, Any] = {}

    def open(self, name: str, folder: Path, config: dict[str, Any], note: Callable[[str], None]) -> None:
        """Begin, for a run of that name."""
        self._note = note
        for kind, module in self._modules.items():
            self._try(kind, lambda: self._open.update({kind: module.Tracker(name, folder, config)}))  # noqa: B023

    def log(self, row: dict[str, Any]) -> None:
        """One row of metrics.jsonl."""
        for kind, tracker in list(self._open.items()):
            self._try(kind, lambda: tracker.log(row))  # noqa: B023

    def close(self) -> None:
        """End all."""
        for kind, tracker in list(self._open.items()):
            self._try(kind, tracker.close)

    def _try(self, kind: str, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as error:
            self._open.pop(kind, None)
            self._note(f"warning: {kind} failed and is left out from here on: {one_line(error)}")


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"supermask.trackers.{name}")
    except ImportError as error:
        package = PACKAGES.get(name, name)
        raise UsageError(f"--{name} needs the package {package}: pip install 'supermask[{name}]'") from error
