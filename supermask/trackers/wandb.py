"""Weights & Biases. It reads WANDB_MODE=offline and its other environment variables itself."""

import hashlib
from pathlib import Path
from typing import Any

import wandb

from supermask.trackers._rows import by_seed


class Tracker:
    """Logs to one W&B run per run folder and config, in the project `supermask`; a resumed search continues its run."""

    def __init__(self, name: str, folder: Path, config: dict[str, Any]) -> None:
        own = hashlib.sha256(f"{folder.resolve()} {sorted(config.items())}".encode()).hexdigest()[:16]
        self._run = wandb.init(project="supermask", name=name, id=own, resume="allow", config=config)

    def log(self, row: dict[str, Any]) -> None:
        # The epoch is logged as a value, not as the step: seeds that are searched in turn start again at epoch 1.
        self._run.log({"epoch": row["epoch"], **by_seed(row)})

    def close(self) -> None:
        self._run.finish()
