"""How sure networks are of each example of a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from supermask.core import Parametrization
from supermask.data.pieces import Pieces, Whole
from supermask.engine.aot import Compiled
from supermask.engine.evaluator import seed_key
from supermask.engine.problem import Problem
from supermask.engine.sharding import Sharding, to_host
from supermask.types import Array

BATCH = 64


class Margins:
    """Computes the margin of each example of a split: the highest probability of a class less the second highest.

    Every device goes through all examples, so margins do not depend on the number of devices.
    """

    def __init__(
        self, problem: Problem, parametrization: Parametrization, pieces: Pieces | Whole, sharding: Sharding
    ) -> None:
        self._problem, self._parametrization, self._sharding = problem, parametrization, sharding
        self._pieces = pieces
        self._program = Compiled(sharding.program(self._of_piece))

    def __call__(self, result: Any, model_state: Any, frozen: Any, seeds: Sequence[int]) -> np.ndarray:
        """Return the margins, shape (seeds, examples); for the arguments see `Evaluator.__call__`."""
        keys = self._sharding.stack_seeds([seed_key(seed) for seed in seeds])
        per_seed = (result, model_state, frozen, keys)
        found = [to_host(self._program(per_seed, images)) for images, _ in self._pieces]
        return np.concatenate(found, axis=1)[:, : self._pieces.examples]

    def _of_piece(self, per_seed: Any, images: Array) -> Array:
        result, model_state, frozen, key = per_seed
        weights, count = self._parametrization.result_weights(result, frozen, key), len(images)
        size = min(BATCH, count)
        starts = jnp.minimum(jnp.arange(-(-count // size)) * size, count - size)

        def of_batch(start: Array) -> Array:
            inputs = self._problem.pipeline.normalise(lax.dynamic_slice_in_dim(images, start, size))
            outputs = self._problem.model.apply(weights, model_state, inputs, train=False, key=None)[0]
            best = lax.top_k(jax.nn.softmax(outputs.astype(jnp.float32)), 2)[0]
            return best[..., 0] - best[..., 1]

        places = starts[:, None] + jnp.arange(size)
        return jnp.zeros(count).at[places.ravel()].set(lax.map(of_batch, starts).ravel())
