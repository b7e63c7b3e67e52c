"""TensorBoard: event files in the run folder, written by tensorboardX."""

from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from supermask.trackers._rows import by_seed


class Tracker:
    """Writes scalars by epoch, one group per seed."""

    def __init__(self, name: str, folder: Path, config: dict[str, Any]) -> None:
        self._writer = SummaryWriter(str(folder))
        self._writer.add_text("config", "\n".join(f"    {key}: {value}" for key, value in config.items()))

    def log(self, row: dict[str, Any]) -> None:
        for name, value in by_seed(row).items():
            self._writer.add_scalar(name, value, row["epoch"])

    def close(self) -> None:
        self._writer.close()
