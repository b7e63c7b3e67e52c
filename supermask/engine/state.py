"""The state of a training of some seeds side by side, between two steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from supermask.core import TrainState
from supermask.types import Array, Sums, Tree


@dataclass(frozen=True)
class Candidate:
    """A result on the host that may become the final result of its seed.

    Attributes:
        result: see `Parametrization.result`.
        model_state: the batch statistics that it was scored with, see `BatchStatistics`.
        metrics: epochs, loss, train_accuracy, val_accuracy.
    """

    result: Tree
    model_state: Tree
    metrics: dict[str, float]
    density: float


@dataclass
class FitState:
    """The state that `Trainer.fit` advances. Arrays have a leading axis of seeds.

    Attributes:
        seeds: the requested seeds.
        padded_seeds: the same, with the last one repeated on devices left over, so that nothing is compiled anew.
        train: see `core.TrainState`.
        order_key, noise_key: keys of the data order, and of augmentation, dropout and the noise of masks.
        sums, failed: sums over the epoch so far; the first step with a loss that is not finite, or -1.
        step, epochs_done: steps done; epochs done, with their results scored. Training need not begin at step 0.
        begun: the step at which this training began.
        seconds, waited: time spent in steps and waiting for their data; that spent waiting.
        best, last: candidates of each of `padded_seeds`; [] before the first epoch is done.
        interrupted: whether a callback stopped the training.
    """

    seeds: tuple[int, ...]
    padded_seeds: tuple[int, ...]
    train: TrainState
    order_key: Array
    noise_key: Array
    sums: Sums
    failed: Array
    step: int = 0
    epochs_done: int = 0
    begun: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    best: list[Candidate] = field(default_factory=list)
    last: list[Candidate] = field(default_factory=list)
    interrupted: bool = False

    @property
    def steps_done(self) -> int:
        """Number of steps of this training."""
        return self.step - self.begun

    @property
    def moving(self) -> Any:
        """The arrays that a snapshot stores."""
        return self.train, self.sums

    def wait(self, now: float, since: float) -> float:
        """Count the time from `since` to `now` as waited for data; return `now`."""
        self.waited += now - since
        self.seconds += now - since
        return now

    @property
    def data_wait(self) -> float:
        """Share of the time that the devices waited for data."""
        return self.waited / self.seconds if self.seconds else 0.0
