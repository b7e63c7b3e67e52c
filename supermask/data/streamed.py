"""The feed of data that streams."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from supermask.data.ahead import ahead, read
from supermask.data.feed import Chunk, Pipeline, Placement
from supermask.data.streaming import Streaming
from supermask.types import Array, Split


class Streamed:
    """Feeds chunks of a few batches. Each seed has chunks of its own, for its order is its own.

    Attributes:
        length: number of batches in a chunk; the last one of an epoch may be shorter, but is as large.
        waited: see `Feed`.
    """

    def __init__(self, split: Split, pipeline: Pipeline, placement: Placement, streaming: Streaming) -> None:
        self.pipeline, self._split, self._placement = pipeline, split, placement
        self.length = streaming.batches(pipeline.batch_size, split.inputs.shape[1:], pipeline.steps_per_epoch)
        self.waited = 0.0
        self._order = jax.jit(placement.program(lambda key, epoch: pipeline.order(key, epoch)))
        self._places = placement.replicate(np.arange(self.length * pipeline.batch_size, dtype=np.int32))

    def blank(self, keys: Array) -> Chunk:
        """See `Feed.blank`."""
        return self._chunk(0, 0, self._empty(len(keys)))

    def chunks(self, keys: Array, epoch: int, step: int) -> Iterator[Chunk]:
        """See `Feed.chunks`."""
        orders = np.asarray(self._order(keys, jnp.int32(epoch)))
        words = ["-".join(map(str, key)) for key in np.asarray(jax.random.key_data(keys))]
        end, size = epoch * self.pipeline.steps_per_epoch, self.pipeline.batch_size

        def make(start: int) -> Chunk:
            stop = min(start + self.length, end)
            first = start % self.pipeline.steps_per_epoch * size
            arrays = self._empty(len(orders))
            for row, (order, word) in enumerate(zip(orders, words, strict=True)):
                index = order[first : first + (stop - start) * size]
                arrays[0][row, : len(index)] = read(self._split.inputs, index, f"{word}/{epoch}")
                arrays[1][row, : len(index)] = self._split.targets[index]
            return self._chunk(start, stop, arrays)

        with closing(ahead(make, range(step, end, self.length))) as chunks:
            while True:
                began = time.perf_counter()
                chunk = next(chunks, None)
                self.waited += time.perf_counter() - began
                if chunk is None:
                    return
                yield chunk

    def take(
        self, per_seed: Any, shared: Any, step: Array, key: Array, local_shard: Callable[[Array], Array]
    ) -> tuple[Array, Array]:
        """See `Feed.take`."""
        places, start = shared
        return self.pipeline.batch(places, per_seed, step - start, key, local_shard)

    def _empty(self, seeds: int) -> tuple[np.ndarray, np.ndarray]:
        """Arrays of a chunk for all seeds; never used twice, since a CPU device may keep them as they are."""
        inputs, targets, count = self._split.inputs, self._split.targets, self.length * self.pipeline.batch_size
        return tuple(np.zeros((seeds, count, *array.shape[1:]), array.dtype) for array in (inputs, targets))  # type: ignore[return-value]

    def _chunk(self, start: int, stop: int, arrays: tuple[np.ndarray, np.ndarray]) -> Chunk:
        return Chunk(start, stop, self._placement.place_seeds(arrays), (self._places, np.int32(start)))
