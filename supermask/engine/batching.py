"""How a batch is cut: into the shares of devices, and each share into micro-batches."""

from __future__ import annotations

import math

import jax

from supermask.config import SearchConfig
from supermask.errors import UsageError
from supermask.types import Model

_PIXELS_IN_CACHE = 8 * 32 * 32  # images x height x width whose activations a CPU core's cache holds, by measurement
_LEAST_SHARE = 8  # images of a batch that make a device worth its part in the sum of gradients


def shares(batch: int, model: Model, config: SearchConfig) -> int:
    """Into how many shares a batch is cut: one per device, but on a CPU only where convolutions make it worth while.

    Raises:
        UsageError: the devices cannot have equal shares.
    """
    count = int(config.devices or 1)
    if jax.default_backend() == "cpu" and not _convolutional(model):
        return 1
    if batch < int(config.batch_size or 1):  # it was cut to the images that there are
        return max(d for d in range(1, count + 1) if batch % d == 0)
    if batch % count:
        raise UsageError(f"a batch of {batch} images cannot be shared evenly by {count} devices")
    return count


def micro_batches(share: int, shape: tuple[int, ...], model: Model, config: SearchConfig) -> int:
    """How many pieces a device's share of a batch goes through in.

    On a CPU convolutions gain from staying in the cache, unless they are XLA's, which must not lie in a loop there.

    Raises:
        UsageError: the micro-batch that was asked for does not divide the share.
    """
    if config.micro_batch is not None:
        if model.stats:
            raise UsageError(f"{config.arch} has batch statistics, which need the batch whole: leave out --micro-batch")
        if share % config.micro_batch:
            raise UsageError(f"micro-batches of {config.micro_batch} do not divide a device's {share} images")
        return share // config.micro_batch
    if model.stats or not _convolutional(model) or jax.default_backend() != "cpu" or config.conv == "xla":
        return 1
    largest = max(1, _PIXELS_IN_CACHE // math.prod(shape[:2]))
    return next(pieces for pieces in range(1, share + 1) if share % pieces == 0 and share // pieces <= largest)


def devices(config: SearchConfig) -> int:
    """The number of local devices to use: as asked, or the most that share a batch evenly and worth their while.

    Raises:
        UsageError: more were asked for than there are.
    """
    there, batch = jax.local_device_count(), int(config.batch_size or 1)
    if config.devices is None:
        return max(d for d in range(1, there + 1) if d == 1 or (batch % d == 0 and batch // d >= _LEAST_SHARE))
    if config.devices > there:
        kind = "GPU" if jax.default_backend() == "gpu" else f"{jax.default_backend()} device"
        raise UsageError(f"devices is {config.devices}; JAX sees {there} {kind}{'s' if there > 1 else ''}")
    return config.devices


def _convolutional(model: Model) -> bool:
    return any(len(shape) == 4 for shape in model.weights.values())
