"""Where the training of some seeds side by side stands, between two steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from supermask.core import TrainState
from supermask.types import Array, Sums, Tree


@dataclass(frozen=True)
class Candidate:
    """A result on the host that may become the one of its seed.

    Attributes:
        result: see `Parametrization.result`.
        model_state: batch statistics that it was scored with.
        metrics: epochs, loss, train_accuracy, val_accuracy.
    """

    result: Tree
    model_state: Tree
    metrics: dict[str, float]
    density: float


@dataclass
class FitState:
    """What `Trainer.fit` moves on. Arrays have an axis of seeds in front.

    Attributes:
        seeds: the seeds that were asked for.
        laid: the same, the last one repeated where devices are left over, so that nothing is compiled anew.
        train: see `core.TrainState`.
        order_key, noise_key: what the order, and augmentation, dropout and the noise of masks, derive from.
        sums, failed: over the epoch so far; the first step whose loss was not finite, or -1.
        step, epochs_done: of an epoch that is done, the result has been scored.
        seconds: spent in steps.
        best, last: candidates of each of `laid`; [] before the first epoch is done.
        interrupted: whether a callback stopped it.
    """

    seeds: tuple[int, ...]
    laid: tuple[int, ...]
    train: TrainState
    order_key: Array
    noise_key: Array
    sums: Sums
    failed: Array
    step: int = 0
    epochs_done: int = 0
    seconds: float = 0.0
    best: list[Candidate] = field(default_factory=list)
    last: list[Candidate] = field(default_factory=list)
    interrupted: bool = False

    @property
    def moving(self) -> Any:
        """The arrays that a snapshot holds."""
        return self.train, self.sums
