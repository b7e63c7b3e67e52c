"""Predicts what a run will take, from a few seconds of its own training."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from supermask.config import Config
from supermask.core import mask_search, weight_training
from supermask.data.source import Source
from supermask.engine.callbacks import Callback, Metrics
from supermask.engine.problem import Problem, load_problem
from supermask.engine.programs import Start
from supermask.engine.saliency import first_scores
from supermask.engine.trainer import Trainer
from supermask.experiments.bench import peak_memory
from supermask.runtime.numerics import fixed_numerics
from supermask.types import Tree

SECONDS = 2.0
"""How long to train; the calls of the compiled function that are under way end first."""
_CALLS = 3
_SCORING = 1 / 3
"""Cost of scoring an example over that of training on it, where no epoch ended: the forward pass alone."""


@dataclass(frozen=True)
class Speed:
    """What a training was measured to take on this machine.

    Attributes:
        start_seconds: everything before the first step: imports, data, compiling.
        compile_seconds: the compiling in it, which another run of the same program leaves to JAX's cache.
        epoch_seconds: an epoch of the seeds that lie side by side, with its scores.
        together: how many seeds those are.
        memory_bytes: the peak, of the process on a CPU, of the devices on a GPU.
    """

    start_seconds: float
    compile_seconds: float
    epoch_seconds: float
    together: int
    memory_bytes: int

    def seconds(self, config: Config) -> float:
        """Seconds of a whole run, if it differs from the measured one in nothing that changes its steps."""
        groups, trainings = -(-config.seeds // self.together), config.num_results // config.seeds
        return self.start_seconds + groups * trainings * int(config.epochs or 0) * self.epoch_seconds


@fixed_numerics()
def measure(config: Config, source: Source, began: float) -> Speed:
    """Train a resolved config for a moment; nothing is written.

    Every training of a run is taken to be as long as the first; a lottery or a training under a ticket is measured as
    dense training, whose steps differ by one product with a mask.

    Args:
        began: when the process did, by `time.perf_counter`.

    Raises: what `load_problem` and `Trainer.fit` raise.
    """
    problem = load_problem(config, source)
    trainer, frozen, starts = _beginning(problem)
    state, clock = trainer.init(range(config.seed, config.seed + len(starts)), starts), _Clock()
    epochs = int(config.epochs or 0)
    trainer.fit(state, trainer.place(frozen), epochs, (clock,))
    start_seconds = (clock.steps[0][0] if clock.steps else time.perf_counter()) - began
    return Speed(
        start_seconds=start_seconds,
        compile_seconds=trainer.steps.compile_seconds,
        epoch_seconds=clock.epoch_seconds(problem) if epochs else 0.0,
        together=len(starts),
        memory_bytes=peak_memory(trainer.sharding),
    )


def _beginning(problem: Problem) -> tuple[Trainer, list[Tree], list[Start]]:
    """Return (trainer, frozen trees, starts) for the seeds that lie side by side."""
    config, sharding = problem.config, problem.side_by_side()
    seeds = range(config.seed, config.seed + sharding.seeds)
    weights = [problem.weights(seed) for seed in seeds]
    if problem.searcher is None:
        trainer = Trainer(problem, weight_training, sharding)
        return trainer, [{} for _ in seeds], [(tree, {}) for tree in weights]
    trainer, first = Trainer(problem, mask_search(problem.searcher, problem.trained), sharding), first_scores(problem)
    starts = []
    for seed, tree in zip(seeds, weights, strict=True):
        scores, state = first(seed, tree)
        starts.append((scores | {name: tree[name] for name in problem.trained}, state))
    return trainer, weights, starts


@dataclass
class _Clock(Callback):
    """Notes when calls and epochs end, and asks to stop after a few seconds."""

    steps: list[tuple[float, int]] = field(default_factory=list)
    epochs: list[float] = field(default_factory=list)

    def on_steps(self, seeds: tuple[int, ...], done: int, total: int, loss: float) -> None:
        self.steps.append((time.perf_counter(), done))

    def on_epoch(self, metrics: Metrics) -> None:
        self.epochs.append(time.perf_counter())

    def should_stop(self) -> bool:
        return len(self.steps) >= _CALLS and time.perf_counter() - self.steps[0][0] > SECONDS

    def epoch_seconds(self, problem: Problem) -> float:
        """Of whole epochs after the first, which makes what all need, or else of the steps after the first call."""
        if len(self.epochs) > 1:
            return (self.epochs[-1] - self.epochs[0]) / (len(self.epochs) - 1)
        (first, done), (last, until) = self.steps[0], self.steps[-1]
        if until == done:  # one step in all
            return self.epochs[-1] - first
        dataset, pipeline = problem.dataset, problem.pipeline
        assert dataset.validation is not None
        scored = _SCORING * len(dataset.validation) / pipeline.batch_size
        return (last - first) / (until - done) * (pipeline.steps_per_epoch + scored)
