"""Trackio: a local dashboard of Hugging Face."""

from pathlib import Path
from typing import Any

import trackio


class Tracker:
    """One Trackio run of the run folder's name in the project `supermask`."""

    def __init__(self, name: str, folder: Path, config: dict[str, Any]) -> None:
        trackio.init(project="supermask", name=name, config=config, resume="allow")

    def log(self, row: dict[str, Any]) -> None:
        named = {f"seed{row['seed']}/{key}": value for key, value in row.items() if key not in ("seed", "epoch")}
        trackio.log({"epoch": row["epoch"], **named})

    def close(self) -> None:
        trackio.finish()
