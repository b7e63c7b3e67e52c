"""How a batch is cut: into shards for devices, and each shard into micro-batches; and which seeds lie side by side."""

from __future__ import annotations

import math

import jax

from supermask.config import Config
from supermask.engine.sharding import Sharding
from supermask.errors import UsageError
from supermask.types import Model

_PIXELS_IN_CACHE = 8 * 32 * 32  # images x height x width whose activations a CPU core's cache holds, by measurement
_SMALLEST_SHARD = 8  # images that make a device worth its part in the sum of gradients


def num_shards(batch: int, model: Model, config: Config) -> int:
    """Into how many shards a batch is cut: one per device, but on a CPU only where convolutions make it worthwhile.

    Raises:
        UsageError: the devices cannot have equal shards.
    """
    count = int(config.devices or 1)
    if jax.default_backend() == "cpu" and not _convolutional(model):
        return 1
    if batch < int(config.batch_size or 1):  # it was cut to the images that there are
        return max(d for d in range(1, count + 1) if batch % d == 0)
    if batch % count:
        raise UsageError(f"a batch of {batch} images cannot be shared evenly by {count} devices")
    return count


def num_microbatches(shard: int, shape: tuple[int, ...], model: Model, config: Config) -> int:
    """How many micro-batches a device's shard of a batch goes through in.

    On a CPU convolutions gain from staying in the cache, unless they are XLA's, which must not lie in a loop there.

    Args:
        shard: number of images.
        shape: of an image (height, width, channels).

    Raises:
        UsageError: the micro-batch that was asked for does not divide the shard.
    """
    if config.micro_batch is not None:
        if model.state:
            raise UsageError(f"{config.arch} has batch statistics, which need the batch whole: leave out --micro-batch")
        if shard % config.micro_batch:
            raise UsageError(f"micro-batches of {config.micro_batch} do not divide a device's {shard} images")
        return shard // config.micro_batch
    if model.state or not _convolutional(model) or jax.default_backend() != "cpu" or config.conv == "xla":
        return 1
    largest = max(1, _PIXELS_IN_CACHE // math.prod(shape[:2]))
    return next(count for count in range(1, shard + 1) if shard % count == 0 and shard // count <= largest)


def devices(config: Config) -> int:
    """The number of local devices to use: as asked, or the most that share a batch evenly and are worth it.

    Raises:
        UsageError: more were asked for than there are.
    """
    there, batch = jax.local_device_count(), int(config.batch_size or 1)
    if config.devices is None:
        return max(d for d in range(1, there + 1) if d == 1 or (batch % d == 0 and batch // d >= _SMALLEST_SHARD))
    if config.devices > there:
        kind = "GPU" if jax.default_backend() == "gpu" else f"{jax.default_backend()} device"
        raise UsageError(f"devices is {config.devices}; JAX sees {there} {kind}{'s' if there > 1 else ''}")
    return config.devices


def seeds_side_by_side(config: Config, model: Model, sharding: Sharding) -> int:
    """How many seeds run side by side, each on a device of its own.

    A device alone with a seed never waits for the others, as it does in every step of a batch that they share; but
    where batches are shared, fewer seeds than devices would leave some idle. Batch statistics need the batch whole,
    so the seeds of networks that have them take turns.
    """
    count, seeds = int(config.devices or 1), config.seeds
    if model.state or (sharding.num_shards > 1 and seeds < count):
        return 1
    return min(count, seeds)


def _convolutional(model: Model) -> bool:
    return any(len(shape) == 4 for shape in model.weights.values())
