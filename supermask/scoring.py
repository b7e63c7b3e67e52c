"""How good a hardened mask is on one split: the same compiled function for `search` and for `eval`."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np

from supermask import core
from supermask.build import EVALUATION_BATCH, Parts
from supermask.compiled import Compiled
from supermask.masks import key_for
from supermask.types import Split, Tree

SAMPLES = 10
"""Draws of a sampled mask that a recorded accuracy is the mean of (Zhou et al. 2019)."""


def search_key(seed: int) -> jax.Array:
    """The key that everything random of one search, but its frozen weights, derives from."""
    return jax.random.key(seed)


class Scorer:
    """Scores masks on one split, which stays on the device."""

    def __init__(self, parts: Parts, split: Split) -> None:
        self._data = (jax.device_put(split.images), jax.device_put(split.labels))
        self._count = len(split)
        batch = min(EVALUATION_BATCH, self._count)
        self.program = Compiled(partial(core.score, parts.method, parts.model, parts.prepare, batch))

    def __call__(
        self, weights: Tree, mask: Tree, stats: Tree, seed: int, samples: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(mean cross-entropy, accuracy), one of each per draw of a sampled mask; one in all for any other mask.

        Draw i is the same for a given seed, whatever `samples` is.
        """
        drawn = any(array.dtype == np.uint8 for array in mask.values())
        key = key_for(search_key(seed), "score")
        keys = [jax.random.fold_in(key, i) for i in range(samples if drawn else 1)]
        results = [self.program(weights, mask, stats, *self._data, key) for key in keys]
        losses, correct = (np.array([float(value) for value in column]) for column in zip(*results, strict=True))
        return losses / self._count, correct / self._count
