"""The compiled functions of a search, its data on the devices, and the state that they move on."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from supermask import core
from supermask.engine.aot import Compiled
from supermask.engine.epoch import epoch_order, training_program
from supermask.engine.evaluator import Scorer, search_key
from supermask.engine.problem import Parts, initial_stats
from supermask.engine.saliency import Looking
from supermask.types import Array, Method, Tree
from supermask.weights.shapes import maskable


@dataclass
class Searching:
    """Where searches stand; every array has an axis of seeds in front, as `Layout.stack` makes them.

    Attributes:
        inner: scores, optimiser and batch statistics.
        order_key, noise_key: what the order, and augmentation and the noise of masks, derive from.
        order: of the images in this epoch; set by `Programs.begin_epoch`.
        loss, correct: sums over the epoch so far; set likewise.
        failed: the first step whose loss was not finite, or -1; set likewise.
    """

    weights: Any
    inner: core.State
    order_key: Array
    noise_key: Array
    order: Array = None
    loss: Array = None
    correct: Array = None
    failed: Array = None

    @property
    def stats(self) -> Any:
        return self.inner.stats


def side_by_side(parts: Parts) -> int:
    """How many seeds of a search run side by side, each on a device of its own.

    A device alone with a seed never waits for the others, as it does in every step of a batch that they share; but
    where batches are shared, fewer seeds than devices would leave some idle. Batch statistics need the batch whole,
    so nets that have them go in turn.
    """
    devices, seeds = int(parts.config.devices or 1), parts.config.seeds
    if parts.model.stats or (parts.layout.shares > 1 and seeds < devices):
        return 1
    return min(devices, seeds)


class Programs:
    """Everything compiled once for a search of any seeds, `seeds` of them side by side."""

    def __init__(self, parts: Parts, seeds: int = 1) -> None:
        self.parts, self.layout = parts, parts.lay(seeds)
        layout, train = self.layout, parts.dataset.train
        assert parts.dataset.validation is not None
        self._data = layout.everywhere((train.images, train.labels))
        self.validation = Scorer(parts, parts.dataset.validation, layout)
        self._harden = Compiled(layout.program(partial(_harden, parts.method), (True, True)))
        self.start = Compiled(layout.program(parts.optimiser.init, (True,)))
        order = partial(epoch_order, parts.method, count=len(train), size=parts.batch_size)
        self._order = Compiled(layout.program(order, (True, False)))
        self._looking = Looking(parts)
        # Scores, moments and statistics are donated: they are updated in place.
        self.train = Compiled(training_program(parts, core.searching(parts.method), layout), donate_argnums=0)

    @cached_property
    def training_split(self) -> Scorer:
        """Scores masks that are not trained on the training images."""
        return Scorer(self.parts, self.parts.dataset.train, self.layout, self._data)

    @cached_property
    def data_name(self) -> str:
        """Differs for other training images or labels: their number, and checksums of both."""
        train = self.parts.dataset.train
        images, labels = (zlib.crc32(np.ascontiguousarray(array).data) for array in (train.images, train.labels))
        return f"{len(train)}-{images:08x}-{labels:08x}"

    @property
    def compile_seconds(self) -> float:
        programs = [self.validation.program, self._harden, self.start, self._order, self.train]
        if not self.parts.total_steps:
            programs.append(self.training_split.program)
        return sum(program.seconds for program in programs)

    def begin(self, seeds: Sequence[int], host_weights: Sequence[Tree]) -> Searching:
        """The state before the first step."""
        stack = self.layout.stack
        keys = [jax.random.split(search_key(seed), 3) for seed in seeds]
        first = [
            self.parts.method.start(key[0], *self._looking(seed, weights))
            for key, seed, weights in zip(keys, seeds, host_weights, strict=True)
        ]
        names = maskable(self.parts.model.weights)
        scores = stack([{name: tree[name] for name in names} for tree in first])
        carried = stack([{name: array for name, array in tree.items() if name not in names} for tree in first])
        stats = stack([initial_stats(self.parts.model.stats)] * len(seeds))
        return Searching(
            weights=stack(host_weights),
            inner=core.State(scores, self.start(scores), stats, carried),
            order_key=stack([key[1] for key in keys]),
            noise_key=stack([key[2] for key in keys]),
        )

    def prepare(self, state: Searching, seeds: Sequence[int]) -> None:
        """Compile all that an epoch needs before its first step: so long, nothing is there that a stop could lose."""
        self.begin_epoch(state, 1)
        mask, _ = self.harden(state)
        self.validation.prepare(state.weights, mask, state.stats, seeds)
        self.train.prepare(*self._arguments(state, 0, 0))

    def begin_epoch(self, state: Searching, epoch: int) -> None:
        """Shuffle the images and forget the sums of the epoch before."""
        count = self.layout.seeds
        state.order = self._order(state.order_key, jnp.int32(epoch))
        state.loss = self.layout.stack([np.float32(0)] * count)
        state.correct = self.layout.stack([np.int32(0)] * count)
        state.failed = self.layout.stack([np.int32(-1)] * count)

    def advance(self, state: Searching, start: int, stop: int) -> tuple[np.ndarray, float]:
        """Run the steps start..stop-1; (summed loss of the epoch so far per seed, seconds without compiling)."""
        moved, seconds = self.train.timed(*self._arguments(state, start, stop))
        state.inner, state.loss, state.correct, state.failed = moved
        return np.asarray(state.loss, float), seconds

    def _arguments(self, state: Searching, start: int, stop: int) -> tuple[Any, ...]:
        carry = (state.inner, state.loss, state.correct, state.failed)
        bounds = (jnp.int32(start), jnp.int32(stop))
        return (carry, state.weights, *self._data, state.order, state.noise_key, *bounds)

    def harden(self, state: Searching) -> tuple[Any, np.ndarray]:
        """(hardened masks, their densities)."""
        mask, density = self._harden(state.inner.trained | state.inner.carried, state.weights)
        return mask, np.asarray(density)


def _harden(method: Method, scores: Tree, weights: Tree) -> tuple[Tree, Array]:
    """(hardened mask, its density)."""
    mask = method.harden(scores, {name: weights[name] for name in scores if name in weights})
    kept = jnp.float32(0)
    for array in mask.values():
        expected = array.astype(jnp.float32) / 255 if array.dtype == jnp.uint8 else (array != 0).astype(jnp.float32)
        kept += jnp.sum(expected)
    return mask, kept / sum(array.size for array in mask.values())
