"""Where seeds and batches lie on devices: one seed whose batches all devices share, or a seed on each device.

One program serves both, and one device as well as many. Where seeds lie apart, each device goes through the shards of
a batch one after the other that the devices would have shared, so that a seed's ticket does not depend on the seeds
beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from supermask.types import Array

AXIS = "devices"
Program = Callable[..., Any]


@dataclass(frozen=True)
class Sharding:
    """The first local devices as a mesh of one axis.

    Attributes:
        num_shards: into how many a batch is cut.
        seeds: how many seeds lie side by side, each on a device of its own; with 1, each device takes a shard of
            the batch.
        whole: the network sees its batch whole (it has batch statistics), so that the compiler divides the work on
            one batch instead; only with `seeds` 1.
    """

    num_shards: int = 1
    seeds: int = 1
    whole: bool = False

    @property
    def devices(self) -> int:
        return self.seeds if self.seeds > 1 else self.num_shards

    @property
    def mesh(self) -> Mesh:
        return Mesh(np.array(jax.local_devices()[: self.devices]), (AXIS,))

    @property
    def axis(self) -> str | None:
        """The mesh axis to sum over inside a program, if a batch is spread over it."""
        return AXIS if self.seeds == 1 and self.num_shards > 1 and not self.whole else None

    @property
    def sequential_shards(self) -> int:
        """How many shards of a batch one device takes, one after the other."""
        return self.num_shards if self.seeds > 1 else 1

    def replicate(self, tree: Any) -> Any:
        """The arrays of a tree, whole, on every device."""
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def place_seeds(self, tree: Any) -> Any:
        """Arrays that have the axis of seeds in front already, each seed on its device."""
        return jax.device_put(tree, NamedSharding(self.mesh, self._own))

    def stack_seeds(self, trees: Sequence[Any]) -> Any:
        """One tree per seed as one tree with an axis of length `seeds` in front, each seed on its device."""
        return self.place_seeds(jax.tree.map(lambda *arrays: _stack(arrays), *trees))

    def program(self, function: Program, own: int = 1) -> Program:
        """A function of one seed as a function, to be compiled, of all seeds side by side.

        Args:
            function: (per_seed, ..., shared) -> result; sees and returns arrays of one seed, without the axis in front.
            own: how many arguments come before `shared`: pytrees in which every seed has arrays of its own.
        """

        def each(*arguments: Any) -> Any:
            *per_seed, shared = arguments
            return jax.tree.map(lambda a: a[None], function(*map(_first, per_seed), shared))

        if self.whole:
            return each
        inputs = (self._own,) * own + (PartitionSpec(),)
        return jax.shard_map(each, mesh=self.mesh, in_specs=inputs, out_specs=self._own, check_vma=False)

    def local_shard(self, x: Array) -> Array:
        """Inside a program: this device's part of an axis 0 that is the batch, or all of it."""
        if self.whole:
            return lax.with_sharding_constraint(x, NamedSharding(self.mesh, PartitionSpec(AXIS)))
        if self.axis is None:
            return x
        size = len(x) // self.devices
        return lax.dynamic_slice_in_dim(x, lax.axis_index(AXIS) * size, size)

    @property
    def _own(self) -> PartitionSpec:
        return PartitionSpec(AXIS) if self.seeds > 1 else PartitionSpec()


def _stack(arrays: Sequence[Any]) -> Any:
    on_host = all(isinstance(a, np.ndarray) for a in arrays)
    return np.stack(arrays) if on_host else jnp.stack(arrays)


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda a: a[0], tree)
