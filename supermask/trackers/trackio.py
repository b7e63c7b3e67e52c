"""Trackio: the local dashboard by Hugging Face."""

from pathlib import Path
from typing import Any

import trackio

from supermask.trackers._rows import by_seed


class Tracker:
    """Logs to one Trackio run, named like the run folder, in the project `supermask`."""

    def __init__(self, name: str, folder: Path, config: dict[str, Any]) -> None:
        trackio.init(project="supermask", name=name, config=config, resume="allow")

    def log(self, row: dict[str, Any]) -> None:
        trackio.log({"epoch": row["epoch"], **by_seed(row)})

    def close(self) -> None:
        trackio.finish()
