"""The search of seeds that lie side by side: compiled steps driven over epochs, between two of which it can be left."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from supermask._version import __version__
from supermask.engine.callbacks import Observer
from supermask.engine.evaluator import SAMPLES, SECONDS_PER_CALL, Scorer, sampled
from supermask.engine.programs import Programs
from supermask.engine.snapshot import Candidate, Snapshot, leaves_of, put_back
from supermask.errors import BadFileError, DivergedError
from supermask.ticket import Ticket
from supermask.types import Method, Metrics
from supermask.weights.shapes import fingerprint


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


class Group:
    """The search of the seeds that lie side by side."""

    def __init__(
        self, programs: Programs, seeds: tuple[int, ...], observer: Observer, resume: Snapshot | None = None
    ) -> None:
        self.programs, self.parts, self.seeds, self.observer = programs, programs.parts, seeds, observer
        self.compiled_before = programs.compile_seconds
        # Devices that are left over at the end search the last seed as well, so that nothing is compiled anew.
        self.laid = seeds + seeds[-1:] * (programs.layout.seeds - len(seeds))
        self.host_weights = [self.parts.weights(seed) for seed in self.laid]
        self.state = programs.begin(self.laid, self.host_weights)
        self.steps_done, self.epochs_done, self.train_seconds = 0, 0, 0.0
        self.best: list[Candidate] = []
        self.last: list[Candidate] = []
        self.interrupted = False
        if self.parts.total_steps:
            programs.prepare(self.state, self.laid)
        if resume:
            self._resume(resume)

    def run(self) -> list[Outcome]:
        """One outcome per seed; none if it was stopped before the first epoch ended."""
        if self.parts.total_steps:
            self._run_epochs(int(self.parts.config.epochs or 0))
        else:
            self.best = self.last = self._untrained()
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
            for ticket in self._tickets()
        ]

    def _run_epochs(self, epochs: int) -> None:
        while self.epochs_done < epochs:
            steps, seconds = self.steps_done, self.train_seconds
            trained = self._train_epoch(self.epochs_done + 1)
            if trained is None:
                return
            found = self._candidates(self.epochs_done + 1, *trained)
            if not found:
                return
            self.last = found
            pairs = zip(self.best or self.last, self.last, strict=True)
            self.best = [max(pair, key=lambda c: c.metrics["val_accuracy"]) for pair in pairs]
            self.epochs_done += 1
            images = (self.steps_done - steps) * self.parts.batch_size
            self._report(images / (self.train_seconds - seconds) if images else 0.0)

    def _report(self, images_per_second: float) -> None:
        shown = self.last[: len(self.seeds)]
        columns = {name: np.array([c.metrics[name] for c in shown]) for name in shown[0].metrics if name != "epochs"}
        density, speed = np.array([c.density for c in shown]), np.full(len(shown), images_per_second)
        self.observer.epoch(
            Metrics(epoch=self.epochs_done, seeds=self.seeds, density=density, images_per_second=speed, **columns)
        )

    def _train_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray] | None:
        """(mean loss, accuracy) per seed over the epoch's images, taken while training; None if stopped in between."""
        parts, programs = self.parts, self.programs
        begin, end = (epoch - 1) * parts.steps_per_epoch, epoch * parts.steps_per_epoch
        if self.steps_done == begin:  # else it was resumed in the middle
            programs.begin_epoch(self.state, epoch)
        loss = np.asarray(self.state.loss, float)
        while self.steps_done < end:
            if self._stops():
                return None
            start, stop = self.steps_done, min(end, self.steps_done + self._steps_per_call())
            loss, seconds = programs.advance(self.state, start, stop)
            self.train_seconds += seconds
            self.steps_done = stop
            self._check(loss, epoch)
            seen = (stop - begin) * parts.batch_size
            self.observer.steps(self.seeds, stop, parts.total_steps, float(loss[: len(self.seeds)].mean()) / seen)
        images = parts.steps_per_epoch * parts.batch_size
        return loss / images, np.asarray(self.state.correct) / images

    def _check(self, loss: np.ndarray, epoch: int) -> None:
        for i, (seed, value) in enumerate(zip(self.seeds, loss, strict=False)):
            if not math.isfinite(value):
                scores = {name: float(np.linalg.norm(np.asarray(s[i]))) for name, s in self.state.inner.trained.items()}
                norms = ", ".join(f"{name} {norm:.3g}" for name, norm in scores.items())
                raise DivergedError(
                    f"the loss of seed {seed} became {value} at step {int(self.state.failed[i]) + 1} (epoch {epoch}; "
                    f"norms of the scores: {norms}); no ticket of it was written: try a smaller --learning-rate"
                )

    def _stops(self) -> bool:
        """Whether the observer wants to stop; before that, or when it is due, a snapshot is saved."""
        if self.observer.stop():
            self._leave()
        elif self.observer.due(self.epochs_done):
            self._save()
        return self.interrupted

    def _leave(self) -> None:
        """Stop here, because the observer wants it."""
        self.interrupted = True
        self._save()

    def _save(self) -> None:
        snapshot = self._snapshot()
        if snapshot.is_finite():
            self.observer.save(snapshot)

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            first=self.seeds[0],
            steps_done=self.steps_done,
            epochs_done=self.epochs_done,
            train_seconds=self.train_seconds,
            state=leaves_of(self.state),
            best=self.best,
            last=self.last,
            data=self.programs.data_name,
        )

    def _resume(self, snapshot: Snapshot) -> None:
        if snapshot.data != self.programs.data_name:
            raise BadFileError("the checkpoint is of other training images: --force searches anew")
        self.steps_done, self.epochs_done = snapshot.steps_done, snapshot.epochs_done
        self.train_seconds, self.best, self.last = snapshot.train_seconds, snapshot.best, snapshot.last
        if not self.parts.total_steps:
            return
        self.programs.begin_epoch(self.state, self.epochs_done + 1)
        put_back(self.state, snapshot.state, self.programs.layout)

    def _steps_per_call(self) -> int:
        if not self.train_seconds:
            return 1  # a first look at the speed
        return max(1, int(SECONDS_PER_CALL * self.steps_done / self.train_seconds))

    def _candidates(self, epoch: int, loss: np.ndarray, train_accuracy: np.ndarray) -> list[Candidate]:
        """Of all seeds; none if it is stopped."""
        mask, density = self.programs.harden(self.state)
        scored = self._scored(self.programs.validation, mask, self.state.stats)
        if scored is None:
            return []
        _, [accuracy] = scored
        mask, stats = jax.device_get((mask, self.state.stats))
        columns = {"loss": loss, "train_accuracy": train_accuracy, "val_accuracy": accuracy}
        return [
            Candidate(
                mask={name: array[i] for name, array in mask.items()},
                stats={name: array[i] for name, array in stats.items()},
                metrics={"epochs": epoch, **{name: float(column[i]) for name, column in columns.items()}},
                density=float(density[i]),
            )
            for i in range(len(self.laid))
        ]

    def _untrained(self) -> list[Candidate]:
        """The masks as they were before any step, with their loss and accuracy on the training images."""
        mask, _ = self.programs.harden(self.state)
        scored = self._scored(self.programs.training_split, mask, self.state.stats)
        if scored is None:
            return []
        [losses], [accuracies] = scored
        return self._candidates(0, losses, accuracies)

    def _scored(self, scorer: Scorer, mask: Any, stats: Any, samples: int = 1) -> tuple[np.ndarray, np.ndarray] | None:
        """See `Scorer`; None if the observer wants to stop."""
        found = scorer(self.state.weights, mask, stats, self.laid, samples, self.observer.stop)
        if found is None:
            self._leave()
        return found

    def _several_draws(self, chosen: list[Candidate]) -> list[dict[str, float]] | None:
        """The metrics of each, for sampled masks over several draws; None if it is stopped."""
        metrics = [candidate.metrics for candidate in chosen]
        if not sampled(chosen[0].mask):
            return metrics
        stack = self.programs.layout.stack
        mask, stats = stack([c.mask for c in chosen]), stack([c.stats for c in chosen])
        scored = self._scored(self.programs.validation, mask, stats, SAMPLES)
        if scored is None:
            return None
        return [row | {"val_accuracy": float(column.mean())} for row, column in zip(metrics, scored[1].T, strict=True)]

    def _tickets(self) -> list[Ticket]:
        """Of the last mask or the best; of the best so far if it is stopped, be it here."""
        parts = self.parts
        chosen = self.best if parts.config.select == "best" else self.last
        metrics = None if self.interrupted else self._several_draws(chosen)
        if metrics is None:
            chosen = self.best
            more = {"val_samples": 1} if chosen and sampled(chosen[0].mask) else {}
            metrics = [candidate.metrics | more for candidate in chosen]
        return [
            Ticket(
                config=parts.config.replace(seed=seed, seeds=1),
                shapes=parts.model.weights,
                image_shape=parts.dataset.train.images.shape[1:],
                mask=candidate.mask,
                stats=candidate.stats,
                fingerprint=fingerprint(weights),
                metrics=row,
                transforms=type(parts.method).effective is not Method.effective,
                versions={"supermask": __version__, "jax": jax.__version__, "numpy": np.__version__},
            )
            for seed, candidate, row, weights in zip(self.seeds, chosen, metrics, self.host_weights, strict=False)
        ]
