"""How good hardened masks are on one split: the same compiled function for `search` and for `eval`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from supermask import core
from supermask.engine.aot import Compiled
from supermask.engine.problem import Parts
from supermask.engine.sharding import Layout
from supermask.masks import key_for
from supermask.types import Split

SAMPLES = 10
"""Draws of a sampled mask that a recorded accuracy is the mean of (Zhou et al. 2019)."""

SECONDS_PER_CALL = 1.0
"""How long compiled code keeps Python from reporting and from obeying signals, once its speed is known."""


def search_key(seed: int) -> jax.Array:
    """The key that everything random of one search, but its frozen weights, derives from."""
    return jax.random.key(seed)


class Scorer:
    """Scores the masks of seeds side by side on one split, which stays on the devices."""

    def __init__(self, parts: Parts, split: Split, layout: Layout, data: Any = None) -> None:
        """`data` are the split's images and labels, if they are on the devices already."""
        layout = replace(layout, whole=False)  # batch statistics are read here, not made
        self._layout, self._count = layout, len(split)
        self._data = data or layout.everywhere((split.images, split.labels))
        # On a CPU, 128 at a time would take more memory than the search of a Conv4 itself.
        batch = min(32 if jax.default_backend() == "cpu" else 512, self._count)
        self._rounds = -(-self._count // (batch * core.score_lanes(layout)))
        self._per_call = 1  # a first look at the speed
        score = partial(core.score, parts.method, parts.model, parts.prepare, batch, layout=layout)
        self.program = Compiled(layout.program(score, (True, True, True, False, False, True, False, False)))

    def __call__(
        self,
        weights: Any,
        mask: Any,
        stats: Any,
        seeds: Sequence[int],
        samples: int,
        stop: Callable[[], bool] = lambda: False,
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """(mean cross-entropy, accuracy), each of shape (draws, seeds); one draw unless the masks are sampled.

        Args:
            weights, mask, stats: of all seeds, as `Layout.stack` makes them.
            seeds: draw i of a seed is the same, whatever `samples` is.
            stop: asked between compiled calls; once it says so, the result is None.
        """
        results = []
        for draw in range(samples if sampled(mask) else 1):
            sums = self._sums((weights, mask, stats, *self._data, self._key(seeds, draw)), stop)
            if sums is None:
                return None
            results.append(sums)
        losses, correct = (np.stack(column) for column in zip(*results, strict=True))
        return losses / self._count, correct / self._count

    def prepare(self, weights: Any, mask: Any, stats: Any, seeds: Sequence[int]) -> None:
        """Compile for such arguments, unless it is."""
        self.program.prepare(weights, mask, stats, *self._data, self._key(seeds, 0), jnp.int32(0), jnp.int32(0))

    def _sums(self, arguments: tuple[Any, ...], stop: Callable[[], bool]) -> tuple[np.ndarray, np.ndarray] | None:
        """(summed cross-entropy, number of correct images) per seed; batches are summed up here, however they came."""
        pieces, done = [], 0
        while done < self._rounds:
            if stop():
                return None
            until = min(self._rounds, done + self._per_call)
            found, seconds = self.program.timed(*arguments, jnp.int32(done), jnp.int32(until))
            pieces.append([np.asarray(value) for value in found])
            self._per_call, done = max(1, int(SECONDS_PER_CALL * (until - done) / seconds)), until
        losses, correct = (np.sum(column, axis=0) for column in zip(*pieces, strict=True))
        return losses.sum(-1, dtype=float), correct.sum(-1)

    def _key(self, seeds: Sequence[int], draw: int) -> Any:
        keys = [key_for(search_key(seed), "score") for seed in seeds]
        return self._layout.stack([jax.random.fold_in(key, draw) for key in keys])


def sampled(mask: Any) -> bool:
    """Whether a hardened mask is one of probabilities, which has to be drawn."""
    return any(array.dtype == np.uint8 for array in mask.values())
