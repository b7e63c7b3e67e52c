"""Feeds: how training examples reach the device. A resident split stays there and is permuted for each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from supermask.types import Array, Split


def example_of(split: Split, count: int = 2) -> jax.ShapeDtypeStruct:
    """The shape and type of `count` inputs as a network gets them: images as float32, tokens as int32."""
    shape = split.inputs.shape[1:]
    return jax.ShapeDtypeStruct((count, *shape), jnp.float32 if len(shape) > 1 else jnp.int32)


class Chunk(NamedTuple):
    """The data of steps start..stop-1, all in one epoch.

    Attributes:
        per_seed: arrays with a leading axis of seeds.
        shared: arrays that all seeds use.
    """

    start: int
    stop: int
    per_seed: Any
    shared: Any


class Feed(Protocol):
    """Supplies the training examples of an epoch in chunks, and takes batches from them inside the compiled step.

    Attributes:
        waited: seconds that were spent waiting for chunks.
    """

    waited: float

    def blank(self, keys: Array) -> Chunk:
        """Return a chunk like all others, to compile for."""

    def chunks(self, keys: Array, epoch: int, step: int) -> Iterator[Chunk]:
        """Yield the chunks of an epoch from a given step on.

        Args:
            keys: one key per seed.
            epoch: counted from 1.
            step: counted from the start of the training.
        """

    def take(
        self, per_seed: Any, shared: Any, step: Array, key: Array, local_shard: Callable[[Array], Array]
    ) -> tuple[Array, Array]:
        """Return (inputs, targets) of one seed in one step; traced.

        Every device makes the whole batch before `local_shard` takes its part, so augmentation does not depend on the
        number of devices.
        """


class Placement(Protocol):
    """Places arrays on devices; `engine.sharding.Sharding` implements it."""

    def replicate(self, tree: Any) -> Any: ...

    def place_seeds(self, tree: Any) -> Any: ...

    def program(self, function: Callable[..., Any], own: int = 1) -> Callable[..., Any]: ...


@dataclass(frozen=True)
class Pipeline:
    """How the batches of one config are made.

    Attributes:
        batch_size, steps_per_epoch: examples left over after the last full batch are not used in that epoch.
        order: (key, epoch) -> order of the examples in the epoch, int32 (at least steps * batch,).
        augment: (key, uint8 images) -> uint8 images, or None.
        normalise: uint8 images -> float32; tokens stay as they are.
    """

    batch_size: int
    steps_per_epoch: int
    order: Callable[[Array, Array], Array]
    augment: Callable[[Array, Array], Array] | None
    normalise: Callable[[Array], Array]

    def inputs(self, images: Array, key: Array, local_shard: Callable[[Array], Array]) -> Array:
        """Return the network's inputs in training for a batch as it lies there, or for this device's part; traced."""
        return self.normalise(local_shard(images if self.augment is None else self.augment(key, images)))

    def batch(
        self, order: Array, data: Any, number: Array, key: Array, local_shard: Callable[[Array], Array]
    ) -> tuple[Array, Array]:
        """Return (inputs, targets) of a batch, counted from the start of `order`, which says where its examples lie."""
        (images, labels), size = data, self.batch_size
        chosen = lax.dynamic_slice(order, (number * size,), (size,))
        return self.inputs(images[chosen], key, local_shard), local_shard(labels[chosen])


class Resident:
    """Keeps a whole split on the devices, as uint8 or tokens; an epoch is one chunk."""

    waited = 0.0

    def __init__(self, split: Split, pipeline: Pipeline, placement: Placement) -> None:
        self.pipeline = pipeline
        self.data = placement.replicate((split.inputs, split.targets))
        self._order = jax.jit(placement.program(lambda key, epoch: pipeline.order(key, epoch)))

    def blank(self, keys: Array) -> Chunk:
        """See `Feed.blank`."""
        return next(self.chunks(keys, 1, 0))

    def chunks(self, keys: Array, epoch: int, step: int) -> Iterator[Chunk]:
        """Yield one chunk that reaches to the end of the epoch."""
        yield Chunk(step, epoch * self.pipeline.steps_per_epoch, self._order(keys, jnp.int32(epoch)), self.data)

    def take(
        self, per_seed: Any, shared: Any, step: Array, key: Array, local_shard: Callable[[Array], Array]
    ) -> tuple[Array, Array]:
        """See `Feed.take`."""
        return self.pipeline.batch(per_seed, shared, step % self.pipeline.steps_per_epoch, key, local_shard)
