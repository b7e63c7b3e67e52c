"""`search`: the compiled steps driven over epochs and seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from supermask._version import __version__
from supermask.build import Parts, build
from supermask.config import SearchConfig
from supermask.errors import DivergedError
from supermask.inits import fingerprint
from supermask.programs import Programs, side_by_side
from supermask.scoring import SAMPLES, Scorer
from supermask.ticket import Ticket
from supermask.types import Method, Metrics, Tree

SECONDS_PER_CALL = 1.0
"""How long compiled code keeps Python from reporting and from obeying signals, once its speed is known."""


@dataclass(frozen=True)
class Outcome:
    """The search of one seed: its ticket, how long it took, and whether the observer stopped it early.

    Attributes:
        images_per_second: of this seed; as many again went through each seed beside it.
        compile_seconds, train_seconds: of all seeds that lay side by side.
    """

    ticket: Ticket
    images_per_second: float
    compile_seconds: float
    train_seconds: float
    device: str
    interrupted: bool


@dataclass(frozen=True)
class Observer:
    """Whom a search tells, and whom it asks whether to stop. Called between compiled calls, never from inside.

    Attributes:
        epoch: after each epoch, for all seeds that lie side by side.
        steps: after each compiled call: seeds, steps done, steps in all, mean loss of the epoch so far over the seeds.
        stop: whether to end the search with the best mask so far.
    """

    epoch: Callable[[Metrics], None] = lambda metrics: None
    steps: Callable[[tuple[int, ...], int, int, float], None] = lambda seeds, done, total, loss: None
    stop: Callable[[], bool] = lambda: False


def search(
    config: SearchConfig, *, data_dir: str | Path | None = None, observer: Observer | None = None
) -> list[Ticket]:
    """Find a mask for each seed of the config.

    Returns:
        one ticket per seed, in order of the seeds; fewer if the observer stopped the search.

    Raises:
        UsageError: a name or a number of the config is wrong.
        BadFileError: the dataset is missing or damaged.
        DivergedError: the loss is not finite.
    """
    parts = build(config, Path(data_dir) if data_dir else None)
    return [outcome.ticket for outcome in outcomes(parts, observer or Observer())]


def outcomes(parts: Parts, observer: Observer) -> Iterator[Outcome]:
    """One outcome per seed. When the observer stops it, the last ones are of the best masks so far, if any."""
    config, together = parts.config, side_by_side(parts)
    programs = Programs(parts, together)
    for first in range(config.seed, config.seed + config.seeds, together):
        seeds = tuple(range(first, min(first + together, config.seed + config.seeds)))
        search = _Search(programs, seeds, observer)
        yield from search.run()
        if search.interrupted:
            return


@dataclass(frozen=True)
class _Candidate:
    """A mask on the host that may become the ticket of a seed."""

    mask: Tree
    stats: Tree
    metrics: dict[str, float]
    density: float


class _Search:
    """The search of the seeds that lie side by side."""

    def __init__(self, programs: Programs, seeds: tuple[int, ...], observer: Observer) -> None:
        self.programs, self.parts, self.seeds, self.observer = programs, programs.parts, seeds, observer
        self.compiled_before = programs.compile_seconds
        # Devices that are left over at the end search the last seed as well, so that nothing is compiled anew.
        self.laid = seeds + seeds[-1:] * (programs.layout.seeds - len(seeds))
        self.host_weights = [self.parts.weights(seed) for seed in self.laid]
        self.state = programs.begin(self.laid, self.host_weights)
        self.steps_done, self.train_seconds = 0, 0.0

    @property
    def interrupted(self) -> bool:
        return self.steps_done < self.parts.total_steps

    def run(self) -> list[Outcome]:
        """One outcome per seed; none if it was stopped before the first epoch ended."""
        epochs = int(self.parts.config.epochs or 0)
        best: list[_Candidate] = []
        last: list[_Candidate] = []
        for last in self._epochs(epochs) if epochs else iter([self._untrained()]):
            best = [max(pair, key=_val_accuracy) for pair in zip(best, last, strict=True)] if best else last
        chosen = best if self.interrupted or self.parts.config.select == "best" else last
        rate = self.steps_done * self.parts.batch_size / self.train_seconds if self.train_seconds else 0.0
        return [
            Outcome(
                ticket=ticket,
                images_per_second=rate,
                compile_seconds=self.programs.compile_seconds - self.compiled_before,
                train_seconds=self.train_seconds,
                device=jax.devices()[0].device_kind,
                interrupted=self.interrupted,
            )
            for ticket in self._tickets(chosen)
        ]

    def _epochs(self, epochs: int) -> Iterator[list[_Candidate]]:
        for epoch in range(1, epochs + 1):
            seconds_before = self.train_seconds
            trained = self._train_epoch(epoch)
            if trained is None:
                return
            candidates = self._candidates(epoch, *trained)
            rate = self.parts.steps_per_epoch * self.parts.batch_size / (self.train_seconds - seconds_before)
            shown = candidates[: len(self.seeds)]
            columns = {
                name: np.array([c.metrics[name] for c in shown]) for name in shown[0].metrics if name != "epochs"
            }
            density, speed = np.array([c.density for c in shown]), np.full(len(shown), rate)
            self.observer.epoch(
                Metrics(epoch=epoch, seeds=self.seeds, density=density, images_per_second=speed, **columns)
            )
            yield candidates

    def _train_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray] | None:
        """(mean loss, accuracy) per seed over the epoch's images, taken while training; None if stopped in between."""
        parts, programs = self.parts, self.programs
        begin, end = (epoch - 1) * parts.steps_per_epoch, epoch * parts.steps_per_epoch
        programs.begin_epoch(self.state, epoch)
        loss = np.zeros(len(self.laid))
        while self.steps_done < end:
            if self.observer.stop():
                return None
            start, stop = self.steps_done, min(end, self.steps_done + self._steps_per_call())
            loss, seconds = programs.advance(self.state, start, stop)
            self.train_seconds += seconds
            self.steps_done = stop
            self._check(loss, epoch, start, stop)
            seen = (stop - begin) * parts.batch_size
            self.observer.steps(self.seeds, stop, parts.total_steps, float(loss[: len(self.seeds)].mean()) / seen)
        images = parts.steps_per_epoch * parts.batch_size
        return loss / images, np.asarray(self.state.correct) / images

    def _check(self, loss: np.ndarray, epoch: int, start: int, stop: int) -> None:
        for seed, value in zip(self.seeds, loss, strict=False):
            if not math.isfinite(value):
                raise DivergedError(
                    f"the loss of seed {seed} became {value} between steps {start + 1} and {stop} (epoch {epoch}); "
                    "no ticket was written: try a smaller --learning-rate"
                )

    def _steps_per_call(self) -> int:
        if not self.train_seconds:
            return 1  # a first look at the speed
        return max(1, int(SECONDS_PER_CALL * self.steps_done / self.train_seconds))

    def _candidates(self, epoch: int, loss: np.ndarray, train_accuracy: np.ndarray) -> list[_Candidate]:
        mask, density = self.programs.harden(self.state)
        _, [accuracy] = self.programs.validation(self.state.weights, mask, self.state.stats, self.laid, samples=1)
        mask, stats = jax.device_get((mask, self.state.stats))
        columns = {"loss": loss, "train_accuracy": train_accuracy, "val_accuracy": accuracy}
        return [
            _Candidate(
                mask={name: array[i] for name, array in mask.items()},
                stats={name: array[i] for name, array in stats.items()},
                metrics={"epochs": epoch, **{name: float(column[i]) for name, column in columns.items()}},
                density=float(density[i]),
            )
            for i in range(len(self.laid))
        ]

    def _untrained(self) -> list[_Candidate]:
        """The masks as they were before any step, with their loss and accuracy on the training images."""
        mask, _ = self.programs.harden(self.state)
        scorer = Scorer(self.parts, self.parts.dataset.train, self.programs.layout)
        [losses], [accuracies] = scorer(self.state.weights, mask, self.state.stats, self.laid, samples=1)
        return self._candidates(0, losses, accuracies)

    def _tickets(self, chosen: list[_Candidate]) -> Iterator[Ticket]:
        if not chosen:
            return
        layout, parts = self.programs.layout, self.parts
        mask, stats = layout.stack([c.mask for c in chosen]), layout.stack([c.stats for c in chosen])
        _, accuracies = self.programs.validation(self.state.weights, mask, stats, self.laid, samples=SAMPLES)
        for i, seed in enumerate(self.seeds):
            yield Ticket(
                config=parts.config.replace(seed=seed, seeds=1),
                shapes=parts.model.weights,
                image_shape=parts.dataset.train.images.shape[1:],
                mask=chosen[i].mask,
                stats=chosen[i].stats,
                fingerprint=fingerprint(self.host_weights[i]),
                metrics=chosen[i].metrics | {"val_accuracy": float(accuracies[:, i].mean())},
                transforms=type(parts.method).effective is not Method.effective,
                versions={"supermask": __version__, "jax": jax.__version__, "numpy": np.__version__},
            )


def _val_accuracy(candidate: _Candidate) -> float:
    return candidate.metrics["val_accuracy"]
