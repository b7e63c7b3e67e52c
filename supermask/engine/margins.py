"""How sure networks are of each example of a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from supermask.core import Parametrization
from supermask.engine.aot import Compiled
from supermask.engine.evaluator import seed_key
from supermask.engine.problem import Problem
from supermask.engine.sharding import Sharding
from supermask.types import Array, Split

BATCH = 64


class Margins:
    """Computes the margin of each example of a split: the highest probability of a class less the second highest.

    Every device goes through all examples, so margins do not depend on the number of devices.
    """

    def __init__(
        self, problem: Problem, parametrization: Parametrization, split: Split, sharding: Sharding, data: Any
    ) -> None:
        """`data` are the images and labels of the split on the devices."""
        self._problem, self._parametrization, self._sharding = problem, parametrization, sharding
        self._images, self._count = data[0], len(split)
        self._program = Compiled(sharding.program(self._of_all))

    def __call__(self, result: Any, model_state: Any, frozen: Any, seeds: Sequence[int]) -> np.ndarray:
        """Return the margins, shape (seeds, examples); for the arguments see `Evaluator.__call__`."""
        keys = self._sharding.stack_seeds([seed_key(seed) for seed in seeds])
        return np.asarray(self._program((result, model_state, frozen, keys), self._images))

    def _of_all(self, per_seed: Any, images: Array) -> Array:
        result, model_state, frozen, key = per_seed
        weights = self._parametrization.result_weights(result, frozen, key)
        size = min(BATCH, self._count)
        starts = jnp.minimum(jnp.arange(-(-self._count // size)) * size, self._count - size)

        def of_batch(start: Array) -> Array:
            inputs = self._problem.pipeline.normalise(lax.dynamic_slice_in_dim(images, start, size))
            outputs = self._problem.model.apply(weights, model_state, inputs, train=False, key=None)[0]
            best = lax.top_k(jax.nn.softmax(outputs.astype(jnp.float32)), 2)[0]
            return best[..., 0] - best[..., 1]

        places = starts[:, None] + jnp.arange(size)
        return jnp.zeros(self._count).at[places.ravel()].set(lax.map(of_batch, starts).ravel())
