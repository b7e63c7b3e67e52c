"""The resident feed: which examples a step sees, on one device and on two."""

import jax
import jax.numpy as jnp
import numpy as np

from supermask.data.feed import Pipeline, Resident
from supermask.engine.sharding import Sharding
from supermask.types import Split

IMAGES = np.arange(23, dtype=np.uint8).reshape(23, 1, 1, 1)
SPLIT = Split(IMAGES, np.arange(23, dtype=np.int32))


def feed(sharding):
    order = lambda key, epoch: jax.random.permutation(jax.random.fold_in(key, epoch), 23)  # noqa: E731
    normalise = lambda images: images.astype(jnp.float32)  # noqa: E731
    return Resident(SPLIT, Pipeline(4, 5, order, None, normalise), sharding)


def seen(sharding, epoch):
    """The labels of each step of an epoch, as all devices together see them."""
    found, keys = feed(sharding), sharding.stack_seeds([jax.random.key(1)])
    [chunk] = found.chunks(keys, epoch, (epoch - 1) * 5)
    assert (chunk.start, chunk.stop) == ((epoch - 1) * 5, epoch * 5)

    def take(per_seed, shared):
        data, step = shared
        inputs, targets = found.take(per_seed, data, step, jax.random.key(0), sharding.local_shard)
        return jax.lax.all_gather(targets, sharding.axis, tiled=True) if sharding.axis else targets, inputs.sum()

    program = jax.jit(sharding.program(take))
    return [np.asarray(program(chunk.per_seed, (chunk.shared, jnp.int32(step)))[0])[0] for step in range(5)]


def test_an_epoch_sees_every_example_at_most_once_and_another_order_in_the_next():
    first, second = (np.concatenate(seen(Sharding(), epoch)) for epoch in (1, 2))
    assert len(set(first.tolist())) == len(set(second.tolist())) == 20  # 5 whole batches of 4
    assert not np.array_equal(first, second)


def test_two_devices_share_the_batches_of_one():
    np.testing.assert_array_equal(seen(Sharding(), 3), seen(Sharding(num_shards=2), 3))
