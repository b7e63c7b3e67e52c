"""Weights & Biases; WANDB_MODE=offline and its other variables are its own affair."""

import hashlib
from pathlib import Path
from typing import Any

import wandb

from supermask.trackers._rows import by_seed


class Tracker:
    """One W&B run for each run folder and config in the project `supermask`; a search that goes on goes on in it."""

    def __init__(self, name: str, folder: Path, config: dict[str, Any]) -> None:
        own = hashlib.sha256(f"{folder.resolve()} {sorted(config.items())}".encode()).hexdigest()[:16]
        self._run = wandb.init(project="supermask", name=name, id=own, resume="allow", config=config)

    def log(self, row: dict[str, Any]) -> None:
        # The epoch is a value and no step: seeds that are searched in turn count it from 1 again.
        self._run.log({"epoch": row["epoch"], **by_seed(row)})

    def close(self) -> None:
        self._run.finish()
