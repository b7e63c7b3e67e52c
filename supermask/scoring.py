"""How good hardened masks are on one split: the same compiled function for `search` and for `eval`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from supermask import core
from supermask.build import Parts
from supermask.compiled import Compiled
from supermask.layout import Layout
from supermask.masks import key_for
from supermask.types import Split

SAMPLES = 10
"""Draws of a sampled mask that a recorded accuracy is the mean of (Zhou et al. 2019)."""


def search_key(seed: int) -> jax.Array:
    """The key that everything random of one search, but its frozen weights, derives from."""
    return jax.random.key(seed)


class Scorer:
    """Scores the masks of seeds side by side on one split, which stays on the devices."""

    def __init__(self, parts: Parts, split: Split, layout: Layout) -> None:
        layout = replace(layout, whole=False)  # batch statistics are read here, not made
        self._layout, self._count = layout, len(split)
        self._data = layout.everywhere((split.images, split.labels))
        # On a CPU, 128 at a time would take more memory than the search of a Conv4 itself.
        batch = min(32 if jax.default_backend() == "cpu" else 512, self._count)
        score = partial(core.score, parts.method, parts.model, parts.prepare, batch, layout=layout)
        self.program = Compiled(layout.program(score, (True, True, True, False, False, True)))

    def __call__(
        self, weights: Any, mask: Any, stats: Any, seeds: Sequence[int], samples: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(mean cross-entropy, accuracy), each of shape (draws, seeds); one draw unless the masks are sampled.

        Args:
            weights, mask, stats: of all seeds, as `Layout.stack` makes them.
            seeds: draw i of a seed is the same, whatever `samples` is.
        """
        drawn = any(array.dtype == np.uint8 for array in mask.values())
        results = [
            self.program(weights, mask, stats, *self._data, self._key(seeds, i)) for i in range(samples if drawn else 1)
        ]
        losses, correct = (np.array([np.asarray(value) for value in column]) for column in zip(*results, strict=True))
        return losses.astype(float) / self._count, correct / self._count

    def prepare(self, weights: Any, mask: Any, stats: Any, seeds: Sequence[int]) -> None:
        """Compile for such arguments, unless it is."""
        self.program.prepare(weights, mask, stats, *self._data, self._key(seeds, 0))

    def _key(self, seeds: Sequence[int], draw: int) -> Any:
        keys = [key_for(search_key(seed), "score") for seed in seeds]
        return self._layout.stack([jax.random.fold_in(key, draw) for key in keys])
