"""Trainer: runs compiled steps over epochs, for seeds side by side. It knows nothing of folders and files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from supermask.core import Parametrization
from supermask.engine.callbacks import Callback, Callbacks, Metrics
from supermask.engine.evaluator import SECONDS_PER_CALL, Evaluator
from supermask.engine.problem import Problem
from supermask.engine.programs import CompiledSteps, Start
from supermask.engine.sharding import Sharding, to_host
from supermask.engine.snapshot import Snapshot
from supermask.engine.state import Candidate, FitState
from supermask.errors import DivergedError
from supermask.runtime import hosts
from supermask.types import Split, Sums, Tree


class Trainer:
    """Trains any seeds; compiled once for a problem, a parametrization and a sharding."""

    def __init__(self, problem: Problem, parametrization: Parametrization, sharding: Sharding) -> None:
        self.problem, self.parametrization, self.sharding = problem, parametrization, sharding
        self.steps = CompiledSteps(problem, parametrization, sharding)

    def place(self, trees: Sequence[Tree]) -> Any:
        """Put frozen trees, one per seed, on the devices; the last one is repeated on devices that are left over."""
        return self.sharding.stack_seeds(self._filled(trees))

    def init(
        self, seeds: Sequence[int], starts: Sequence[Start], *, step: int = 0, noise: Sequence[int] | None = None
    ) -> FitState:
        """Return the state before the first step.

        Args:
            starts: each seed's initial (trainable, method_state).
            step: the step to begin at, in the order of the examples and the learning rate; moments are fresh.
            noise: seeds of the order of the examples, augmentation and dropout; by default `seeds` themselves.
        """
        return self.steps.init(seeds, self._filled(starts), step, noise)

    def restore(self, state: FitState, snapshot: Snapshot) -> None:
        """Set a state to a snapshot of the same training.

        Raises:
            BadFileError: the snapshot belongs to another training or to other data.
        """
        snapshot.restore(state, self.steps.data_name, self.sharding.place_seeds)

    def fit(
        self,
        state: FitState,
        frozen: Any,
        until: int,
        callbacks: Iterable[Callback] = (),
        *,
        pause: int | None = None,
    ) -> FitState:
        """Train until `until` epochs are done. A restored state resumes at its step, even in the middle of an epoch.

        With 0 epochs, the initial result is scored as it is on training and validation examples.

        Args:
            state: updated in place and returned; `interrupted` tells whether a callback stopped the training.
            frozen: as `place` returns it.
            until: number of epochs, counted from the start of the training.
            callbacks: called between compiled calls.
            pause: return before this step, if it comes first; another call goes on.

        Raises:
            DivergedError: a loss is not finite; nothing of that epoch is kept.
        """
        return _Fit(self, state, frozen, Callbacks(callbacks), pause).run(until)

    def evaluate(self, state: FitState, frozen: Any, split: Split) -> Sums:
        """Return sums of the current results over a split, each array of shape (draws, seeds)."""
        result, _ = self.steps.result(state, frozen)
        model_state = self.steps.batch_statistics(result, state.train.model_state, frozen, state.padded_seeds)
        evaluator = Evaluator(self.problem, self.parametrization, split, self.sharding)
        sums = evaluator(result, model_state, frozen, state.padded_seeds)
        assert sums is not None  # nobody stops it
        return sums

    def score_again(
        self, state: FitState, candidates: list[Candidate], frozen: Any, samples: int, callbacks: Iterable[Callback]
    ) -> Sums | None:
        """Return sums of sampled candidates over the validation examples, each array of shape (draws, seeds).

        If a callback stops it, save a snapshot, set `state.interrupted` and return None.
        """
        stack = self.sharding.stack_seeds
        result, model_state = stack([c.result for c in candidates]), stack([c.model_state for c in candidates])
        fit = _Fit(self, state, frozen, Callbacks(callbacks))
        return fit.scored(self.steps.validation, result, model_state, samples)

    def _filled(self, items: Sequence[Any]) -> list[Any]:
        return [*items, *[items[-1]] * (self.sharding.seeds - len(items))]


class _Fit:
    """One call of `Trainer.fit`."""

    def __init__(
        self, trainer: Trainer, state: FitState, frozen: Any, callbacks: Callback, pause: int | None = None
    ) -> None:
        self.trainer, self.state, self.frozen, self.callbacks = trainer, state, frozen, callbacks
        self.pause, self.until = pause, 0
        self.steps, self.problem = trainer.steps, trainer.problem

    def run(self, until: int) -> FitState:
        state = self.state
        state.interrupted, self.until = False, until
        if not until and not state.last:
            self._score_untrained()
        elif state.epochs_done < until:
            self.steps.prepare(state, self.frozen)
        while state.epochs_done < until and state.step != self.pause and not state.interrupted:
            steps, seconds = state.step, state.seconds
            if self._train_epoch(state.epochs_done + 1) and self._score(state.epochs_done + 1, *_means(state.sums)):
                images = (state.step - steps) * self.problem.pipeline.batch_size
                self._report(images / (state.seconds - seconds) if images else 0.0)
        return state

    def _train_epoch(self, epoch: int) -> bool:
        """Train an epoch, or to the pause; return whether it was completed."""
        state, per_epoch = self.state, self.problem.pipeline.steps_per_epoch
        last = epoch * per_epoch if self.pause is None else min(self.pause, epoch * per_epoch)
        if state.step == (epoch - 1) * per_epoch:  # else the state was restored in the middle of the epoch
            self.steps.begin_epoch(state)
        feed, waited = self.steps.feed, self.steps.feed.waited
        for chunk in feed.chunks(state.order_key, epoch, state.step):
            waited = state.wait(feed.waited, since=waited)
            while state.step < min(chunk.stop, last):
                if self._stops():
                    return False
                stop = min(chunk.stop, last, state.step + hosts.of_leader(self._steps_per_call()))
                state.seconds += self.steps.advance(state, self.frozen, chunk, state.step, stop)
                state.step = stop
                self._check(np.asarray(to_host(state.sums.loss), float), epoch)
                mean = float(_means(state.sums)[0][: len(state.seeds)].mean())
                self.callbacks.on_steps(state.seeds, stop, self.until * per_epoch, mean)
        return state.step == epoch * per_epoch

    def _score(self, epoch: int, loss: np.ndarray, train_accuracy: np.ndarray) -> bool:
        """Score the current results and make them candidates; return False if a callback stops it."""
        state = self.state
        result, density = self.steps.result(state, self.frozen)
        model_state = self._model_state(result)
        scored = self.scored(self.steps.validation, result, model_state)
        if scored is None:
            return False
        _, accuracy = _means(scored)
        host, model_state = to_host((result, model_state))
        columns = {"loss": loss, "train_accuracy": train_accuracy, "val_accuracy": accuracy[0]}
        state.last = [
            Candidate(
                result={name: array[i] for name, array in host.items()},
                model_state={name: array[i] for name, array in model_state.items()},
                metrics={"epochs": epoch, **{name: float(column[i]) for name, column in columns.items()}},
                density=float(density[i]),
            )
            for i in range(len(state.padded_seeds))
        ]
        pairs = zip(state.best or state.last, state.last, strict=True)
        state.best = [max(pair, key=lambda c: c.metrics["val_accuracy"]) for pair in pairs]
        state.epochs_done = epoch
        return True

    def _score_untrained(self) -> None:
        """Score the results before any step, with their loss and accuracy on the training examples."""
        result, _ = self.steps.result(self.state, self.frozen)
        scored = self.scored(self.steps.training_split, result, self._model_state(result))
        if scored is not None:
            losses, accuracies = _means(scored)
            self._score(0, losses[0], accuracies[0])

    def _model_state(self, result: Any) -> Any:
        """Return the model state that belongs to the results; None if a callback stops its estimate."""
        state, stop = self.state, self.callbacks.should_stop
        return self.steps.batch_statistics(result, state.train.model_state, self.frozen, state.padded_seeds, stop)

    def scored(self, evaluator: Evaluator, result: Any, model_state: Any, samples: int = 1) -> Sums | None:
        """Call the evaluator, unless the model state is None; save and return None if a callback stops it or did."""
        stop, found = self.callbacks.should_stop, None
        if model_state is not None:
            found = evaluator(result, model_state, self.frozen, self.state.padded_seeds, samples, stop)
        if found is None:
            self._leave()
        return found

    def _report(self, images_per_second: float) -> None:
        state = self.state
        shown = state.last[: len(state.seeds)]
        columns = {name: np.array([c.metrics[name] for c in shown]) for name in shown[0].metrics if name != "epochs"}
        density, speed = np.array([c.density for c in shown]), np.full(len(shown), images_per_second)
        epoch, seeds = state.epochs_done, state.seeds
        columns |= {"density": density, "images_per_second": speed}
        self.callbacks.on_epoch(Metrics(epoch=epoch, seeds=seeds, epochs=self.until, **columns))

    def _check(self, loss: np.ndarray, epoch: int) -> None:
        state = self.state
        for i, (seed, value) in enumerate(zip(state.seeds, loss, strict=False)):
            if not math.isfinite(value):
                trained = {n: float(np.linalg.norm(s[i])) for n, s in to_host(state.train.trainable).items()}
                step = int(to_host(state.failed)[i]) + 1
                norms = ", ".join(f"{name} {norm:.3g}" for name, norm in trained.items())
                raise DivergedError(
                    f"the loss of seed {seed} became {value} at step {step} (epoch {epoch}; "
                    f"norms of what is trained: {norms}); nothing of it was kept: try a smaller --learning-rate"
                )

    def _stops(self) -> bool:
        """Return whether a callback wants to stop; save a snapshot first, or when one is due."""
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
        return max(1, int(SECONDS_PER_CALL * self.state.steps_done / self.state.seconds))


def _means(sums: Sums) -> tuple[np.ndarray, np.ndarray]:
    """Return (mean loss, accuracy)."""
    sums = to_host(sums)
    count = np.maximum(np.asarray(sums.count), 1)
    return np.asarray(sums.loss, float) / count, np.asarray(sums.correct) / count
