"""How the training batches of a config are made."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from supermask.config import Config
from supermask.data import augment
from supermask.data.feed import Pipeline
from supermask.errors import UsageError
from supermask.types import Array, Dataset, Method


def pipeline_of(config: Config, dataset: Dataset, method: Method | None, batch: int) -> Pipeline:
    """Return the pipeline of a resolved config; the method is that of a search.

    Raises:
        UsageError: the order of the examples is asked for twice, or the batch does not suit the method.
    """
    count = len(dataset.train)
    if config.order and method and method.order(jax.random.key(0), jnp.int32(1), count, batch) is not None:
        raise UsageError("this method deals the training examples out itself: leave out --order")
    return Pipeline(
        batch_size=batch,
        steps_per_epoch=method.steps_per_epoch(count, batch) if method else count // batch,
        order=partial(_fixed, config.order, count) if config.order else partial(_order, method, count, batch),
        augment=augment.FUNCTIONS.get(str(config.augment)),
        normalise=augment.normalisation(config.normalise or "dataset", dataset),
    )


def _fixed(kind: str, count: int, key: Array, epoch: Array) -> Array:
    """The order of the file, or one of each seed's own, the same in every epoch."""
    return jnp.arange(count, dtype=jnp.int32) if kind == "file" else jax.random.permutation(key, count)


def _order(method: Method | None, count: int, batch: int, key: Array, epoch: Array) -> Array:
    """Return the order of the training examples in an epoch, int32: the method's own, or a new random permutation."""
    own = method.order(key, epoch, count, batch) if method else None
    return jax.random.permutation(jax.random.fold_in(key, epoch), count) if own is None else own
