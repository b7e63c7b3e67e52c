"""Decides how a batch is cut into shards for devices and into micro-batches, and how many seeds lie side by side."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax

from supermask.archs._pure import state_of
from supermask.config import Config
from supermask.engine.sharding import Sharding
from supermask.errors import UsageError
from supermask.nn.microbatches import can_split
from supermask.runtime import hosts
from supermask.types import Model

_PIXELS_IN_CACHE = 8 * 32 * 32  # measured: images x height x width whose activations fit into a CPU core's cache
_PIXELS_IN_STAGE = 4 * 32 * 32  # the same for networks that run stage by stage
_MANY_WEIGHTS = 4_000_000  # measured: with more, four times the pixels, as each micro-batch reads all weights
_SMALLEST_SHARD = 8  # with fewer images, a device saves less time than summing its gradients costs


def num_shards(batch: int, model: Model, config: Config) -> int:
    """Return the number of shards of a batch: one per device, but on a CPU only if convolutions make it worthwhile.

    Raises:
        UsageError: the batch cannot be divided evenly among the devices.
    """
    count = int(config.devices or 1)
    if model.ghost and batch % model.ghost:
        near = max(1, batch // model.ghost) * model.ghost
        raise UsageError(
            f"ghost batches of {model.ghost} do not divide a batch of {batch}: --batch-size {near} would fit"
        )
    if jax.default_backend() == "cpu" and not _convolutional(model):
        return 1
    if model.ghost or batch < int(config.batch_size or 1):  # or there are fewer images than a batch
        return _most(batch // (model.ghost or 1), count)
    if batch % count:
        raise UsageError(f"a batch of {batch} examples cannot be shared evenly by {count} devices")
    return count


def _most(parts: int, count: int) -> int:
    """The largest number of shards, up to `count`, that share so many parts evenly; 1 if the processes cannot."""
    fit = [d for d in range(1, count + 1) if parts % d == 0]
    return max((d for d in fit if d % hosts.processes() == 0), default=1)


class Batching(NamedTuple):
    """How a device processes its shard of a training batch.

    Attributes:
        num_microbatches: number of micro-batches.
        in_stages: whether a network with batch statistics goes through them stage by stage, see `nn.microbatches`.
    """

    num_microbatches: int
    in_stages: bool


def find(example: jax.ShapeDtypeStruct, batch: int, model: Model, config: Config) -> Batching:
    """Return how a device processes its shard of a batch; deep networks with batch statistics are traced for seconds.

    On a CPU, convolutions are faster if their activations stay in the cache. XLA's own are not cut: in a loop they are
    slow there. A network with batch statistics is processed in stages or else at once; if they are those of ghost
    batches, one after the other.

    Args:
        example: of a device's shard of the batch, see `data.feed.example_of`.

    Raises:
        UsageError: the requested micro-batch does not divide the shard, or the network cannot be split so.
    """
    shard, asked, area = example.shape[0], config.micro_batch, math.prod(example.shape[1:3])
    if asked is not None and shard % asked:
        raise UsageError(f"micro-batches of {asked} do not divide a device's {shard} examples")
    if asked is not None and model.ghost and asked % model.ghost:
        raise UsageError(f"micro-batches of {asked} would cut ghost batches of {model.ghost}: take a multiple of them")
    pays = _convolutional(model) and jax.default_backend() == "cpu" and config.conv != "xla"
    if model.ghost or not model.changes:
        unit, many = model.ghost or 1, sum(map(math.prod, model.weights.values())) > _MANY_WEIGHTS
        images = (4 if many else 1) * _PIXELS_IN_CACHE // area
        largest = 1 if model.ghost and not many else images // unit  # several ghosts at once take longer than one
        size = asked or (_size(shard // unit, largest, 1) * unit if pays else shard)
        return Batching(shard // size, False)
    if asked == 1:
        raise UsageError(f"{config.arch} has batch statistics: a micro-batch must have 2 examples or more")
    size = asked or _size(shard, _PIXELS_IN_STAGE // area, 2)
    if pays and shard > 1 and can_split(model, state_of(model), example, size, batch):
        return Batching(shard // size, True)
    if asked is not None and asked < shard:
        raise UsageError(
            f"{config.arch} has batch statistics and cannot be split into micro-batches here: leave out --micro-batch"
        )
    return Batching(1, False)


def _size(shard: int, largest: int, smallest: int) -> int:
    """The largest number of images up to `largest` that divides a shard, or else the next one above it."""
    sizes = [size for size in range(smallest, shard + 1) if shard % size == 0]
    return max((size for size in sizes if size <= largest), default=min(sizes, default=shard))


def devices(config: Config) -> int:
    """Return the number of devices to use: as requested, or the most that share a batch evenly and pay off.

    Raises:
        UsageError: more devices were requested than there are.
    """
    processes, batch = hosts.processes(), int(config.batch_size or 1)
    there = processes * min(hosts.exchange(jax.local_device_count()))  # as many of each process
    if config.devices is None:
        fit = (d for d in range(1, there + 1) if d == 1 or (batch % d == 0 and batch // d >= _SMALLEST_SHARD))
        return max((d for d in fit if d % processes == 0), default=processes)
    if config.devices > there:
        kind = "GPU" if jax.default_backend() == "gpu" else f"{jax.default_backend()} device"
        seen = f"{there} {kind}{'s' if there > 1 else ''}"
        each = f", {there // processes} in each process" if processes > 1 else ""
        raise UsageError(f"devices is {config.devices}; JAX sees {seen}{each}")
    if config.devices % processes:
        raise UsageError(f"devices is {config.devices}; {processes} processes need a multiple of {processes}")
    return config.devices


def seeds_side_by_side(config: Config, model: Model, sharding: Sharding) -> int:
    """Return how many seeds run side by side, each on a device of its own.

    A device with a seed of its own never waits for the others; devices that share a batch wait for each other in every
    step. But if there are fewer seeds than devices, some devices would be idle, so they share batches instead. Batch
    statistics are sums over all shards, so the seeds of networks that have them take turns, those of ghost batches too.
    """
    count, seeds = int(config.devices or 1), config.seeds
    together = min(count, seeds)
    if model.changes or (sharding.num_shards > 1 and seeds < count):
        together = 1
    processes = hosts.processes()
    if together > 1:
        together -= together % processes  # as many in each process
    if max(together, sharding.num_shards) % processes or not together:
        raise UsageError(_cannot_share(config, model, processes))
    return together


def _cannot_share(config: Config, model: Model, processes: int) -> str:
    """Why several processes cannot work on a config as one."""
    text = f"{processes} processes cannot share the batches of {config.arch}"
    if jax.default_backend() == "cpu" and not _convolutional(model):
        text += ", since on CPUs only convolutions are worth it"
    return text + ("" if model.changes else f"; with --seeds {processes} or more, each takes seeds of its own")


def _convolutional(model: Model) -> bool:
    return any(len(shape) == 4 for shape in model.weights.values())
