"""The compiled functions of a training, and its data on the devices."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from supermask.core import Parametrization, TrainState
from supermask.data.feed import Chunk, Feed, Resident
from supermask.data.streamed import Streamed
from supermask.datasets._lazy import Lazy
from supermask.engine.aot import Compiled
from supermask.engine.batch_statistics import BatchStatistics
from supermask.engine.epoch import training_program
from supermask.engine.evaluator import Evaluator, seed_key
from supermask.engine.optim import advanced
from supermask.engine.problem import Problem
from supermask.engine.sharding import Sharding, to_host
from supermask.engine.state import FitState
from supermask.types import Sums, Tree
from supermask.weights.parameters import masked_shapes

Start = tuple[Tree, Any]
"""The (trainable, method_state) of one seed before the first step."""


class CompiledSteps:
    """Everything that is compiled once for a problem, a parametrization and a sharding; it serves any seeds."""

    def __init__(self, problem: Problem, parametrization: Parametrization, sharding: Sharding) -> None:
        self.problem, self.sharding = problem, sharding
        dataset = problem.dataset
        assert dataset.validation is not None
        self.feed = _feed(problem, sharding)
        self.validation = Evaluator(problem, parametrization, dataset.validation, sharding)
        self.batch_statistics = BatchStatistics(problem, parametrization, sharding)
        self._parametrization = parametrization
        numbers, given = parametrization.numbers(masked_shapes(problem.parameters))
        self._given = given or (lambda numbers: parametrization)
        self._numbers = jax.tree.map(_narrow, numbers)
        # The state and the sums are donated, so they are updated in place.
        self._train = Compiled(training_program(problem, self._given, self.feed, sharding), donate_argnums=0)
        self._result = Compiled(sharding.program(self._hardened))
        self._optimizer = Compiled(sharding.program(lambda trainable, _: problem.optimizer.init(trainable)))

    @cached_property
    def training_split(self) -> Evaluator:
        """The evaluator that scores untrained results on the training examples."""
        there = self.feed.data if isinstance(self.feed, Resident) else None
        return Evaluator(self.problem, self._parametrization, self.problem.dataset.train, self.sharding, there)

    @cached_property
    def data_name(self) -> str:
        """The number of training images and checksums of images and labels; differs for other training data."""
        train = self.problem.dataset.train
        images, labels = map(_checksum, (train.inputs, train.targets))
        kind = "files:" if isinstance(train.inputs, Lazy) else ""
        return f"{len(train)}-{kind}{images:08x}-{labels:08x}"

    @property
    def compile_seconds(self) -> float:
        programs = [self.validation.program, self.batch_statistics.program, self._result, self._optimizer, self._train]
        if "training_split" in self.__dict__:
            programs.append(self.training_split.program)
        return sum(program.seconds for program in programs)

    def init(
        self, seeds: Sequence[int], starts: Sequence[Start], step: int = 0, noise: Sequence[int] | None = None
    ) -> FitState:
        """Return the state before the first step; `starts` has one entry per entry of `FitState.padded_seeds`."""
        stack, missing = self.sharding.stack_seeds, len(starts) - len(seeds)
        padded, noise = (tuple(of) + tuple(of[-1:]) * missing for of in (seeds, seeds if noise is None else noise))
        keys = [jax.random.split(seed_key(seed), 3) for seed in noise]
        trainable, method_state = (stack([start[part] for start in starts]) for part in (0, 1))
        model_state = stack([self.problem.initial(seed)[1] for seed in padded])
        optimizer = self._optimizer(trainable, ())
        if step:
            optimizer = self.sharding.place_seeds(advanced(optimizer, step))
        state = FitState(
            seeds=tuple(seeds),
            padded_seeds=padded,
            train=TrainState(trainable, optimizer, model_state, method_state),
            order_key=stack([key[1] for key in keys]),
            noise_key=stack([key[2] for key in keys]),
            sums=Sums(None, None, None),
            failed=None,
            step=step,
            epochs_done=step // self.problem.pipeline.steps_per_epoch,
            begun=step,
        )
        self.begin_epoch(state)
        return state

    def begin_epoch(self, state: FitState) -> None:
        """Reset the sums at the start of an epoch."""
        stack, count = self.sharding.stack_seeds, len(state.padded_seeds)
        state.sums = Sums(*(stack([zero] * count) for zero in (np.float32(0), np.int32(0), np.int32(0))))
        state.failed = stack([np.int32(-1)] * count)

    def advance(self, state: FitState, frozen: Any, chunk: Chunk, start: int, stop: int) -> float:
        """Run steps start..stop-1 of a chunk; return the seconds it took, without compiling."""
        moved, seconds = self._train.timed(*self._arguments(state, frozen, chunk, start, stop))
        state.train, state.sums, state.failed = moved
        return seconds

    def prepare(self, state: FitState, frozen: Any) -> None:
        """Compile everything that an epoch needs, before the first step: a stop meanwhile loses no progress."""
        chunk = self.feed.blank(state.order_key)
        arguments = (self.result(state, frozen)[0], state.train.model_state, frozen, state.padded_seeds)
        self.batch_statistics.prepare(*arguments)
        self.validation.prepare(*arguments)
        self._train.prepare(*self._arguments(state, frozen, chunk, 0, 0))

    def result(self, state: FitState, frozen: Any) -> tuple[Any, np.ndarray]:
        """Return (results, their densities)."""
        train = state.train
        found, density = self._result((train.trainable, train.method_state, frozen), self._numbers)
        return found, to_host(density)

    def _arguments(self, state: FitState, frozen: Any, chunk: Chunk, start: int, stop: int) -> tuple[Any, ...]:
        per_seed = (frozen, state.noise_key, chunk.per_seed)
        numbers = (jnp.float32(self.problem.config.learning_rate or 0), self._numbers)
        shared = (chunk.shared, jnp.int32(start), jnp.int32(stop), numbers)
        return (state.train, state.sums, state.failed), per_seed, shared

    def _hardened(self, per_seed: Any, shared: Any) -> Any:
        (trainable, method_state, frozen), rule = per_seed, self._given(shared)
        found = rule.result(trainable, method_state, frozen)
        return found, rule.density(found, frozen)


def _feed(problem: Problem, sharding: Sharding) -> Feed:
    train, streaming = problem.dataset.train, problem.streaming
    if streaming is None:
        return Resident(train, problem.pipeline, sharding)
    return Streamed(train, problem.pipeline, sharding, streaming)


def _narrow(number: Any) -> Any:
    """As int32 or float32."""
    return jnp.asarray(number, jnp.int32 if np.issubdtype(np.asarray(number).dtype, np.integer) else jnp.float32)


def _checksum(array: Any) -> int:
    """The checksum of an array, or of what images that are not in memory are known by."""
    return zlib.crc32(array.fingerprint.encode() if isinstance(array, Lazy) else np.ascontiguousarray(array).data)
