"""Where seeds and batches lie on devices: all devices share the batches of one seed, or each device has its own seed.

Where several processes work on a run, the devices are those of all of them, as many of each.

The same program serves both cases, and any number of devices. With a seed on each device, the device processes, one
after the other, the shards that the devices would otherwise share. So a seed's ticket does not depend on the seeds
beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from supermask.runtime import hosts
from supermask.types import Array

AXIS = "devices"
Program = Callable[..., Any]


@dataclass(frozen=True)
class Sharding:
    """The first devices of each process, as a mesh with one axis.

    Attributes:
        num_shards: number of shards that a batch is cut into.
        seeds: number of seeds side by side, each on its own device; with 1, each device takes a shard of the batch.
        whole: the network has batch statistics and cannot be run stage by stage, so the compiler distributes the work
            on one batch instead; only with `seeds` 1.
    """

    num_shards: int = 1
    seeds: int = 1
    whole: bool = False

    @property
    def devices(self) -> int:
        return self.seeds if self.seeds > 1 else self.num_shards

    @property
    def mesh(self) -> Mesh:
        return Mesh(np.array(_devices(self.devices)), (AXIS,))

    @property
    def axis(self) -> str | None:
        """The mesh axis to sum over inside a program if a batch is spread over devices, else None."""
        return AXIS if self.seeds == 1 and self.num_shards > 1 and not self.whole else None

    @property
    def sequential_shards(self) -> int:
        """Number of shards of a batch that one device processes, one after the other."""
        return self.num_shards if self.seeds > 1 else 1

    def replicate(self, tree: Any) -> Any:
        """Put the whole arrays of a tree on every device."""
        return _put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def place_seeds(self, tree: Any) -> Any:
        """Put each seed on its device, for arrays that have a leading axis of seeds already."""
        return _put(tree, NamedSharding(self.mesh, self._own))

    def stack_seeds(self, trees: Sequence[Any]) -> Any:
        """Stack one tree per seed into one tree with a leading axis of length `seeds`, each seed on its device."""
        return self.place_seeds(jax.tree.map(lambda *arrays: _stack(arrays), *trees))

    def program(self, function: Program, own: int = 1) -> Program:
        """Turn a function of one seed into a function, to be compiled, of all seeds side by side.

        Args:
            function: (per_seed, ..., shared) -> result; takes and returns arrays of one seed, without the leading axis.
            own: number of arguments before `shared`: pytrees in which each seed has its own arrays.
        """

        def each(*arguments: Any) -> Any:
            *per_seed, shared = arguments
            return jax.tree.map(lambda a: a[None], function(*map(_first, per_seed), shared))

        if self.whole:
            return each
        inputs = (self._own,) * own + (PartitionSpec(),)
        return jax.shard_map(each, mesh=self.mesh, in_specs=inputs, out_specs=self._own, check_vma=False)

    def local_shard(self, x: Array) -> Array:
        """Return this device's part of the batch (axis 0), or all of it; only inside a program."""
        if self.whole:
            return lax.with_sharding_constraint(x, NamedSharding(self.mesh, PartitionSpec(AXIS)))
        if self.axis is None:
            return x
        size = len(x) // self.devices
        return lax.dynamic_slice_in_dim(x, lax.axis_index(AXIS) * size, size)

    @property
    def _own(self) -> PartitionSpec:
        return PartitionSpec(AXIS) if self.seeds > 1 else PartitionSpec()


def to_host(tree: Any) -> Any:
    """Copy arrays to the host, those on devices of other processes too: all processes must call this at once."""
    leaves, structure = jax.tree.flatten(tree)
    apart = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array) and _is_apart(leaf)]
    if apart:
        gathered = _gather(leaves[apart[0]].sharding.mesh)([leaves[i] for i in apart])
        for i, array in zip(apart, gathered, strict=True):
            leaves[i] = array
    return jax.device_get(jax.tree.unflatten(structure, leaves))


def _is_apart(array: jax.Array) -> bool:
    """Whether other processes have parts of an array that this one has not."""
    return not (array.is_fully_addressable or array.is_fully_replicated)


@cache
def _gather(mesh: Mesh) -> Program:
    return jax.jit(lambda arrays: arrays, out_shardings=NamedSharding(mesh, PartitionSpec()))


def _devices(count: int) -> list[Any]:
    if hosts.processes() == 1:
        return jax.local_devices()[:count]
    each = count // hosts.processes()
    return [d for process in range(hosts.processes()) for d in jax.local_devices(process)[:each]]


def _put(tree: Any, sharding: NamedSharding) -> Any:
    """Put arrays on the devices; each process puts its part of them on its own."""
    if hosts.processes() == 1:
        return jax.device_put(tree, sharding)

    def put(array: Any) -> Any:
        if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(array)), impl=jax.random.key_impl(array))
        whole = np.asarray(array)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(put, tree)


def _stack(arrays: Sequence[Any]) -> Any:
    on_host = all(isinstance(a, np.ndarray) for a in arrays)
    return np.stack(arrays) if on_host else jnp.stack(arrays)


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda a: a[0], tree)
