"""Reports a run to trackers, in addition to its metrics.jsonl. An error in a tracker never ends a run."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from supermask.cli import _options as opt
from supermask.config import Config
from supermask.engine.callbacks import Callback, Metrics
from supermask.errors import UsageError, one_line

HELP = {
    "tensorboard": "Write TensorBoard events into the run folder.",
    "wandb": "Report to Weights & Biases.",
    "trackio": "Report to Trackio.",
}
PACKAGES = {"tensorboard": "tensorboardX"}


def tracker_options(command: opt.F) -> opt.F:
    """Add one flag for each file in trackers/."""
    for name, text in reversed(HELP.items()):
        command = opt.option(f"--{name}", is_flag=True, help=text)(command)
    return command


class Trackers(Callback):
    """Reports to the requested trackers; one that fails is dropped with a one-line note.

    Args:
        wanted: names of files in trackers/.
        note: called with that line.

    Raises:
        UsageError: a tracker's package is not installed.
    """

    def __init__(self, wanted: Iterable[str], note: Callable[[str], None]) -> None:
        self._modules = {name: _module(name) for name in wanted}
        self._open: dict[str, Any] = {}
        self._note = note

    def on_begin(self, folder: Path, config: Config) -> None:
        name, values = _name(folder), config.to_dict()
        for kind, module in self._modules.items():
            self._try(kind, lambda: self._open.update({kind: module.Tracker(name, folder, values)}))  # noqa: B023

    def on_epoch(self, metrics: Metrics) -> None:
        for row in metrics.rows():
            for kind, tracker in list(self._open.items()):
                self._try(kind, lambda: tracker.log(row))  # noqa: B023

    def on_end(self) -> None:
        for kind, tracker in list(self._open.items()):
            self._try(kind, tracker.close)

    def _try(self, kind: str, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as error:
            self._open.pop(kind, None)
            self._note(f"warning: {kind} failed and is not used from here on: {one_line(error)}")


def _name(working: Path) -> str:
    """Return the run folder's final name; while it is being filled, it has a hidden one."""
    return working.name.removeprefix(".").removesuffix(".unfinished")


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"supermask.trackers.{name}")
    except ImportError as error:
        package = PACKAGES.get(name, name)
        raise UsageError(f"--{name} needs the package {package}: pip install 'supermask[{name}]'") from error
