"""Scores results on one split, with the same compiled function in a search and in `eval`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from supermask.core import Parametrization
from supermask.data.pieces import Pieces, Whole
from supermask.engine.aot import Compiled
from supermask.engine.problem import Problem
from supermask.engine.sharding import Sharding, to_host
from supermask.masks.noise import key_for
from supermask.runtime import hosts
from supermask.types import Split, Sums

SAMPLES = 10
"""Number of draws of a sampled mask that a recorded accuracy is averaged over (Zhou et al. 2019)."""

SECONDS_PER_CALL = 1.0
"""Length of a compiled call once its speed is known; until the call ends, Python cannot report or handle signals."""


def seed_key(seed: int) -> jax.Array:
    """Return the key from which everything random about a seed is derived, except its weights."""
    return jax.random.key(seed, impl="threefry2x32")  # whatever JAX's default is


class Evaluator:
    """Scores the results of seeds side by side on one split, which stays on the devices or comes in pieces.

    Attributes:
        pieces: the split on its way to the devices.
    """

    def __init__(
        self,
        problem: Problem,
        parametrization: Parametrization,
        split: Split,
        sharding: Sharding,
        data: Any = None,
        batch_size: int | None = None,
    ) -> None:
        """Place the split on the devices; `data` are its images and labels if they are there already."""
        self._problem, self._parametrization = problem, parametrization
        self._sharding = replace(sharding, whole=False)  # evaluation only reads batch statistics
        # On a CPU, batches of 128 would take more memory than the search of a Conv4 itself.
        self._batch_size = batch_size or min(32 if jax.default_backend() == "cpu" else 512, len(split))
        self._batches = -(-len(split) // self._batch_size)
        self.pieces = self._in_pieces(split, data)
        self._batches_per_piece = -(-self.pieces.size // self._batch_size)
        self._per_call = 1  # a first look at the speed
        self.program = Compiled(self._sharding.program(self._sums))

    @property
    def rounds(self) -> int:
        """Number of rounds over a piece; in each round, every device that shares it takes one batch."""
        return -(-self._batches_per_piece // self._batches_per_round)

    @property
    def _batches_per_round(self) -> int:
        return self._sharding.devices if self._sharding.axis else 1

    def _in_pieces(self, split: Split, data: Any) -> Pieces | Whole:
        streaming, size = self._problem.streaming, self._batch_size
        if streaming is None:
            return Whole(data or self._sharding.replicate((split.inputs, split.targets)), self._sharding)
        rounds = streaming.batches(size * self._batches_per_round, split.inputs.shape[1:], self._batches)
        return Pieces(split, rounds * self._batches_per_round * size, self._sharding)

    def __call__(
        self,
        result: Any,
        model_state: Any,
        frozen: Any,
        seeds: Sequence[int],
        samples: int = 1,
        stop: Callable[[], bool] = lambda: False,
    ) -> Sums | None:
        """Return sums over the split, each array of shape (draws, seeds); one draw unless results are sampled masks.

        Args:
            result, model_state, frozen: trees of all seeds, as `Sharding.stack_seeds` returns them.
            seeds: one per entry of the trees. Draw i of a seed does not depend on `samples`.
            samples: number of draws of a sampled mask.
            stop: asked between compiled calls; if it returns True, the result is None.
        """
        draws = range(samples if is_sampled(result) else 1)
        per_seed = [(result, model_state, frozen, self._keys(seeds, draw)) for draw in draws]
        columns: list[list[Sums]] = [[] for _ in draws]
        for data in self.pieces:
            for column, arguments in zip(columns, per_seed, strict=True):
                sums = self._of_piece(data, arguments, stop)
                if sums is None:
                    return None
                column.append(sums)
        found = [self._total(column) for column in columns]
        return Sums(*(np.stack(column) for column in zip(*found, strict=True)))

    def prepare(self, result: Any, model_state: Any, frozen: Any, seeds: Sequence[int]) -> None:
        """Compile for arguments like these unless that is done already."""
        self.program.prepare((result, model_state, frozen, self._keys(seeds, 0)), self._shared(self.pieces.blank, 0, 0))

    def relabelled(self, labels: np.ndarray) -> Evaluator:
        """Return an evaluator of the same images with other labels, which shares the compiled program."""
        other = copy.copy(self)
        other.pieces = self.pieces.relabelled(labels)
        return other

    def _of_piece(self, data: Any, per_seed: Any, stop: Callable[[], bool]) -> Sums | None:
        """Return the sums of each batch of a piece, per seed, however many calls it takes."""
        calls, done = [], 0
        while done < self.rounds:
            if stop():
                return None
            until = min(self.rounds, done + self._per_call)
            found, seconds = self.program.timed(per_seed, self._shared(data, done, until))
            calls.append([np.asarray(value) for value in to_host(found)])
            self._per_call = hosts.of_leader(max(1, int(SECONDS_PER_CALL * (until - done) / seconds)))
            done = until
        return Sums(*(np.sum(column, axis=0) for column in zip(*calls, strict=True)))

    def _total(self, pieces: list[Sums]) -> Sums:
        """Return the sums over all batches, per seed; added up in one go, so it does not matter how they were cut."""
        loss, correct, count = (np.concatenate(column, axis=-1) for column in zip(*pieces, strict=True))
        return Sums(loss[..., : self._batches].sum(-1, dtype=float), correct.sum(-1), count.sum(-1))

    def _shared(self, data: Any, start: int, stop: int) -> Any:
        return (*data, jnp.int32(start), jnp.int32(stop))

    def _keys(self, seeds: Sequence[int], draw: int) -> Any:
        keys = [key_for(seed_key(seed), "score") for seed in seeds]
        return self._sharding.stack_seeds([jax.random.fold_in(key, draw) for key in keys])

    def _sums(self, per_seed: Any, shared: Any) -> Sums:
        """Return the exact sums of each batch of a piece of the split; traced.

        Covers the batches of rounds start..stop-1 (int32 scalars); the sums of all others are 0. Every device takes
        whole batches, so outputs do not depend on the number of devices. The last batch is padded with its last
        example, which still counts only once.
        """
        result, model_state, frozen, key = per_seed
        images, labels, start, stop = shared
        weights = self._parametrization.result_weights(result, frozen, key)
        sharding, problem, count = self._sharding, self._problem, len(labels)
        device = lax.axis_index(sharding.axis) if sharding.axis else 0

        def add(i: Any, sums: Sums) -> Sums:
            batch = i * self._batches_per_round + device
            place = batch * self._batch_size + jnp.arange(self._batch_size, dtype=jnp.int32)
            there, place = place < count, jnp.minimum(place, count - 1)
            inputs = problem.pipeline.normalise(images[place])
            outputs = problem.model.apply(weights, model_state, inputs, train=False, key=None)[0]
            counted = there.reshape(-1, *[1] * (labels.ndim - 1))  # an example may have a target at each token
            found = problem.task.loss(outputs, jnp.where(counted, labels[place], -1))
            return Sums(*(total.at[batch].set(value) for total, value in zip(sums, found, strict=True)))

        zeros = Sums(*(jnp.zeros(self._batches_per_piece, dtype) for dtype in (jnp.float32, jnp.int32, jnp.int32)))
        total = lax.fori_loop(start, stop, add, zeros)
        return lax.psum(total, sharding.axis) if sharding.axis else total


def is_sampled(mask: Any) -> bool:
    """Whether a hardened mask holds probabilities and must be drawn before use."""
    return any(array.dtype == np.uint8 for array in mask.values())
