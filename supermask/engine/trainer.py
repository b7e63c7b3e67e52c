"""Trainer: drives compiled steps over epochs, for seeds side by side; knows no folder and no file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from supermask.core import Parametrization
from supermask.engine.callbacks import Callback, Callbacks, Metrics
from supermask.engine.evaluator import SECONDS_PER_CALL, Evaluator
from supermask.engine.problem import Problem
from supermask.engine.programs import CompiledSteps, Start
from supermask.engine.sharding import Sharding
from supermask.engine.snapshot import Snapshot
from supermask.engine.state import Candidate, FitState
from supermask.errors import DivergedError
from supermask.types import Split, Sums, Tree


class Trainer:
    """Compiled once for (problem, parametrization, sharding); trains any seeds."""

    def __init__(self, problem: Problem, parametrization: Parametrization, sharding: Sharding) -> None:
        self.problem, self.parametrization, self.sharding = problem, parametrization, sharding
        self.steps = CompiledSteps(problem, parametrization, sharding)

    def place(self, trees: Sequence[Tree]) -> Any:
        """What is frozen, one tree per seed, on the devices; the last seed is repeated where devices are left over."""
        return self.sharding.stack_seeds(self._filled(trees))

    def init(self, seeds: Sequence[int], starts: Sequence[Start]) -> FitState:
        """The state before the first step, from the first (trainable, method_state) of each seed."""
        return self.steps.init(seeds, self._filled(starts))

    def restore(self, state: FitState, snapshot: Snapshot) -> None:
        """Put a state where a snapshot of the same training was taken.

        Raises:
            BadFileError: the snapshot is of another training, or of other data.
        """
        snapshot.restore(state, self.steps.data_name, self.sharding.place_seeds)

    def fit(self, state: FitState, frozen: Any, until: int, callbacks: Iterable[Callback] = ()) -> FitState:
        """Train until so many epochs are done; also how a training goes on that was restored in the middle of one.

        With 0 epochs the first result is scored as it is, on training and validation examples.

        Args:
            state: is moved on, and returned; `interrupted` says that a callback stopped it.
            frozen: as `place` returns it.
            until: epochs, counted from the start of the training.

        Raises:
            DivergedError: a loss is not finite; nothing of that epoch is kept.
        """
        return _Fit(self, state, frozen, Callbacks(callbacks)).run(until)

    def evaluate(self, state: FitState, frozen: Any, split: Split) -> Sums:
        """Sums of the present results over a split, each array of shape (draws, seeds)."""
        result, _ = self.steps.result(state, frozen)
        evaluator = Evaluator(self.problem, self.parametrization, split, self.sharding)
        sums = evaluator(result, state.train.model_state, frozen, state.laid)
        assert sums is not None  # nobody stops it
        return sums

    def score_again(
        self, state: FitState, candidates: list[Candidate], frozen: Any, samples: int, callbacks: Iterable[Callback]
    ) -> Sums | None:
        """Sums of sampled candidates over the validation examples, each array of shape (draws, seeds).

        None if a callback stops it; then a snapshot was saved, and `state.interrupted` is set.
        """
        stack = self.sharding.stack_seeds
        result, model_state = stack([c.result for c in candidates]), stack([c.model_state for c in candidates])
        fit = _Fit(self, state, frozen, Callbacks(callbacks))
        return fit.scored(self.steps.validation, result, model_state, samples)

    def _filled(self, items: Sequence[Any]) -> list[Any]:
        return [*items, *[items[-1]] * (self.sharding.seeds - len(items))]


class _Fit:
    """One call of `Trainer.fit`."""

    def __init__(self, trainer: Trainer, state: FitState, frozen: Any, callbacks: Callback) -> None:
        self.trainer, self.state, self.frozen, self.callbacks = trainer, state, frozen, callbacks
        self.steps, self.problem = trainer.steps, trainer.problem

    def run(self, until: int) -> FitState:
        state = self.state
        state.interrupted = False
        if not until and not state.last:
            self._score_untrained()
        elif state.epochs_done < until:
            self.steps.prepare(state, self.frozen)
        while state.epochs_done < until and not state.interrupted:
            steps, seconds = state.step, state.seconds
            if self._train_epoch(state.epochs_done + 1) and self._score(state.epochs_done + 1, *self._means()):
                images = (state.step - steps) * self.problem.pipeline.batch_size
                self._report(images / (state.seconds - seconds) if images else 0.0)
        return state

    def _train_epoch(self, epoch: int) -> bool:
        """Whether it was trained to its end."""
        state, per_epoch = self.state, self.problem.pipeline.steps_per_epoch
        if state.step == (epoch - 1) * per_epoch:  # else it was restored in the middle
            self.steps.begin_epoch(state)
        for chunk in self.steps.feed.chunks(state.order_key, epoch, state.step):
            while state.step < chunk.stop:
                if self._stops():
                    return False
                stop = min(chunk.stop, state.step + self._steps_per_call())
                state.seconds += self.steps.advance(state, self.frozen, chunk, state.step, stop)
                state.step = stop
                loss = np.asarray(state.sums.loss, float)
                self._check(loss, epoch)
                seen = np.asarray(state.sums.count)
                mean = float((loss / np.maximum(seen, 1))[: len(state.seeds)].mean())
                self.callbacks.on_steps(state.seeds, stop, self.problem.total_steps, mean)
        return True

    def _means(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean loss, accuracy) of each seed over the epoch's examples, taken while training."""
        return _means(self.state.sums)

    def _score(self, epoch: int, loss: np.ndarray, train_accuracy: np.ndarray) -> bool:
        """Make candidates of the present results; False if it is stopped."""
        state = self.state
        result, density = self.steps.result(state, self.frozen)
        scored = self.scored(self.steps.validation, result, state.train.model_state)
        if scored is None:
            return False
        _, accuracy = _means(scored)
        host, model_state = jax.device_get((result, state.train.model_state))
        columns = {"loss": loss, "train_accuracy": train_accuracy, "val_accuracy": accuracy[0]}
        state.last = [
            Candidate(
                result={name: array[i] for name, array in host.items()},
                model_state={name: array[i] for name, array in model_state.items()},
                metrics={"epochs": epoch, **{name: float(column[i]) for name, column in columns.items()}},
                density=float(density[i]),
            )
            for i in range(len(state.laid))
        ]
        pairs = zip(state.best or state.last, state.last, strict=True)
        state.best = [max(pair, key=lambda c: c.metrics["val_accuracy"]) for pair in pairs]
        state.epochs_done = epoch
        return True

    def _score_untrained(self) -> None:
        """The results as they were before any step, with their loss and accuracy on the training examples."""
        result, _ = self.steps.result(self.state, self.frozen)
        scored = self.scored(self.steps.training_split, result, self.state.train.model_state)
        if scored is not None:
            losses, accuracies = _means(scored)
            self._score(0, losses[0], accuracies[0])

    def scored(self, evaluator: Evaluator, result: Any, model_state: Any, samples: int = 1) -> Sums | None:
        """See `Evaluator`; None if a callback stops it."""
        stop = self.callbacks.should_stop
        found = evaluator(result, model_state, self.frozen, self.state.laid, samples, stop)
        if found is None:
            self._leave()
        return found

    def _report(self, images_per_second: float) -> None:
        state = self.state
        shown = state.last[: len(state.seeds)]
        columns = {name: np.array([c.metrics[name] for c in shown]) for name in shown[0].metrics if name != "epochs"}
        density, speed = np.array([c.density for c in shown]), np.full(len(shown), images_per_second)
        epoch, seeds = state.epochs_done, state.seeds
        self.callbacks.on_epoch(Metrics(epoch=epoch, seeds=seeds, density=density, images_per_second=speed, **columns))

    def _check(self, loss: np.ndarray, epoch: int) -> None:
        state = self.state
        for i, (seed, value) in enumerate(zip(state.seeds, loss, strict=False)):
            if not math.isfinite(value):
                trained = {n: float(np.linalg.norm(np.asarray(s[i]))) for n, s in state.train.trainable.items()}
                norms = ", ".join(f"{name} {norm:.3g}" for name, norm in trained.items())
                raise DivergedError(
                    f"the loss of seed {seed} became {value} at step {int(state.failed[i]) + 1} (epoch {epoch}; "
                    f"norms of what is trained: {norms}); nothing of it was kept: try a smaller --learning-rate"
                )

    def _stops(self) -> bool:
        """Whether a callback wants to stop; before that, or when it is due, a snapshot is saved."""
        if self.callbacks.should_stop():
            self._leave()
        elif self.callbacks.should_save(self.state.epochs_done):
            self._save()
        return self.state.interrupted

    def _leave(self) -> None:
        self.state.interrupted = True
        self._save()

    def _save(self) -> None:
        snapshot = Snapshot.of(self.state, self.steps.data_name)
        if snapshot.is_finite():
            self.callbacks.on_save(snapshot)

    def _steps_per_call(self) -> int:
        if not self.state.seconds:
            return 1  # a first look at the speed
        return max(1, int(SECONDS_PER_CALL * self.state.step / self.state.seconds))


def _means(sums: Sums) -> tuple[np.ndarray, np.ndarray]:
    """(mean loss, accuracy)."""
    count = np.maximum(np.asarray(sums.count), 1)
    return np.asarray(sums.loss, float) / count, np.asarray(sums.correct) / count
