"""`search`: the compiled steps driven over epochs and seeds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from supermask import core
from supermask._version import __version__
from supermask.build import Parts, build, initial_stats
from supermask.compiled import Compiled
from supermask.config import SearchConfig
from supermask.errors import DivergedError
from supermask.inits import fingerprint, maskable
from supermask.scoring import SAMPLES, Scorer, search_key
from supermask.ticket import Ticket
from supermask.training import epoch_order, training_program
from supermask.types import Array, Method, Metrics, Tree

SECONDS_PER_CALL = 0.5
"""How long compiled code keeps Python from reporting and from obeying signals, once its speed is known."""


@dataclass(frozen=True)
class Outcome:
    """The search of one seed: its ticket, how long it took, and whether the observer stopped it early."""

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
        epoch: after each epoch.
        steps: after each compiled call: seed, steps done, steps in all, mean loss of the epoch so far.
        stop: whether to end the search with the best mask so far.
    """

    epoch: Callable[[Metrics], None] = lambda metrics: None
    steps: Callable[[int, int, int, float], None] = lambda seed, done, total, loss: None
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
    """One outcome per seed. When the observer stops it, the last one is of the best mask so far, if there is one."""
    programs = _Programs(parts)
    first = parts.config.seed
    for seed in range(first, first + parts.config.seeds):
        outcome = _SeedSearch(programs, seed, observer).run()
        if outcome is not None:
            yield outcome
        if outcome is None or outcome.interrupted:
            return


class _Programs:
    """The compiled functions of a search and its data on the device; all seeds share them."""

    def __init__(self, parts: Parts) -> None:
        assert parts.dataset.validation is not None
        self.parts = parts
        self.images, self.labels = (
            jax.device_put(parts.dataset.train.images),
            jax.device_put(parts.dataset.train.labels),
        )
        self.validation = Scorer(parts, parts.dataset.validation)
        self.harden = Compiled(partial(_harden, parts.method))
        self.start = Compiled(parts.optimiser.init)
        self.order = Compiled(partial(epoch_order, count=len(parts.dataset.train)))
        # Scores, moments and statistics are donated: they are updated in place.
        self.train = Compiled(training_program(parts, core.searching(parts.method)), donate_argnums=0)

    @property
    def compile_seconds(self) -> float:
        programs = (self.validation.program, self.harden, self.start, self.order, self.train)
        return sum(program.seconds for program in programs)


@dataclass(frozen=True)
class _Candidate:
    """A mask on the host that may become the ticket."""

    mask: Tree
    stats: Tree
    metrics: dict[str, float]
    density: float


class _SeedSearch:
    """The search of one seed."""

    def __init__(self, programs: _Programs, seed: int, observer: Observer) -> None:
        self.programs, self.parts, self.seed, self.observer = programs, programs.parts, seed, observer
        self.compiled_before = programs.compile_seconds
        self.host_weights = self.parts.weights(seed)
        self.weights = jax.device_put(self.host_weights)
        score_key, self.order_key, self.noise_key = jax.random.split(search_key(seed), 3)
        scores = self.parts.method.init(
            score_key, {name: self.weights[name] for name in maskable(self.parts.model.weights)}
        )
        stats = jax.device_put(initial_stats(self.parts.model.stats))
        self.state = core.State(scores, programs.start(scores), stats)
        self.steps_done, self.train_seconds = 0, 0.0

    def run(self) -> Outcome | None:
        """The outcome; None if it was stopped before the first epoch ended."""
        epochs = int(self.parts.config.epochs or 0)
        candidates = self._epochs(epochs) if epochs else iter([self._untrained()])
        best = last = None
        for last in candidates:
            if best is None or last.metrics["val_accuracy"] > best.metrics["val_accuracy"]:
                best = last
        if best is None or last is None:
            return None
        interrupted = self.steps_done < self.parts.total_steps
        chosen = best if interrupted or self.parts.config.select == "best" else last
        return Outcome(
            ticket=self._ticket(chosen),
            images_per_second=self.steps_done * self.parts.batch_size / self.train_seconds
            if self.train_seconds
            else 0.0,
            compile_seconds=self.programs.compile_seconds - self.compiled_before,
            train_seconds=self.train_seconds,
            device=jax.devices()[0].device_kind,
            interrupted=interrupted,
        )

    def _epochs(self, epochs: int) -> Iterator[_Candidate]:
        for epoch in range(1, epochs + 1):
            seconds_before = self.train_seconds
            trained = self._train_epoch(epoch)
            if trained is None:
                return
            candidate = self._candidate(epoch, *trained)
            rate = self.parts.steps_per_epoch * self.parts.batch_size / (self.train_seconds - seconds_before)
            column = {key: np.array([value]) for key, value in candidate.metrics.items() if key != "epochs"}
            density, speed = np.array([candidate.density]), np.array([rate])
            self.observer.epoch(
                Metrics(epoch=epoch, seeds=(self.seed,), density=density, images_per_second=speed, **column)
            )
            yield candidate

    def _train_epoch(self, epoch: int) -> tuple[float, float] | None:
        """(mean loss, accuracy) over the epoch's images, taken while training; None if stopped in its middle."""
        parts, train = self.parts, self.programs.train
        begin, end = (epoch - 1) * parts.steps_per_epoch, epoch * parts.steps_per_epoch
        loss, total, correct = 0.0, jnp.float32(0), jnp.int32(0)
        order = self.programs.order(self.order_key, jnp.int32(epoch))
        data = (self.programs.images, self.programs.labels, order, self.noise_key)
        while self.steps_done < end:
            if self.observer.stop():
                return None
            start, stop = self.steps_done, min(end, self.steps_done + self._steps_per_call())
            compiled, began = train.seconds, time.perf_counter()
            bounds = jnp.int32(start), jnp.int32(stop)
            self.state, total, correct = train((self.state, total, correct), self.weights, *data, *bounds)
            loss, self.steps_done = float(total), stop
            self.train_seconds += time.perf_counter() - began - (train.seconds - compiled)
            seen = (stop - begin) * parts.batch_size
            if not math.isfinite(loss):
                raise DivergedError(
                    f"the loss of seed {self.seed} became {loss} between steps {start + 1} and {stop} (epoch {epoch}); "
                    "no ticket was written: try a smaller --learning-rate"
                )
            self.observer.steps(self.seed, stop, parts.total_steps, loss / seen)
        images = parts.steps_per_epoch * parts.batch_size
        return loss / images, int(correct) / images

    def _steps_per_call(self) -> int:
        if not self.train_seconds:
            return 4  # a first look at the speed
        return max(1, int(SECONDS_PER_CALL * self.steps_done / self.train_seconds))

    def _candidate(self, epoch: int, loss: float, train_accuracy: float) -> _Candidate:
        mask, density = self.programs.harden(self.state.trained, self.weights)
        _, val_accuracy = self.programs.validation(self.weights, mask, self.state.stats, self.seed, samples=1)
        found = {
            "epochs": epoch,
            "loss": loss,
            "train_accuracy": train_accuracy,
            "val_accuracy": float(val_accuracy[0]),
        }
        return _Candidate(jax.device_get(mask), jax.device_get(self.state.stats), found, float(density))

    def _untrained(self) -> _Candidate:
        """The mask as it was before any step, with its loss and accuracy on the training images."""
        mask, _ = self.programs.harden(self.state.trained, self.weights)
        scorer = Scorer(self.parts, self.parts.dataset.train)
        losses, accuracies = scorer(self.weights, mask, self.state.stats, self.seed, samples=1)
        return self._candidate(0, float(losses[0]), float(accuracies[0]))

    def _ticket(self, chosen: _Candidate) -> Ticket:
        _, accuracies = self.programs.validation(self.weights, chosen.mask, chosen.stats, self.seed, samples=SAMPLES)
        return Ticket(
            config=self.parts.config.replace(seed=self.seed, seeds=1),
            shapes=self.parts.model.weights,
            image_shape=self.parts.dataset.train.images.shape[1:],
            mask=chosen.mask,
            stats=chosen.stats,
            fingerprint=fingerprint(self.host_weights),
            metrics=chosen.metrics | {"val_accuracy": float(accuracies.mean())},
            transforms=type(self.parts.method).transform is not Method.transform,
            versions={"supermask": __version__, "jax": jax.__version__, "numpy": np.__version__},
        )


def _harden(method: Method, scores: Tree, weights: Tree) -> tuple[Tree, Array]:
    """(hardened mask, its density)."""
    mask = method.harden(scores, {name: weights[name] for name in scores})
    kept = jnp.float32(0)
    for array in mask.values():
        expected = array.astype(jnp.float32) / 255 if array.dtype == jnp.uint8 else (array != 0).astype(jnp.float32)
        kept += jnp.sum(expected)
    return mask, kept / sum(array.size for array in mask.values())
