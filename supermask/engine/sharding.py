"""Where searches lie on the devices: one seed whose batches all devices share, or a seed on each device.

One program serves both, and one device as well as many. Where seeds lie apart, each device goes through the shares of
a batch in turn that the devices would have taken, so that a seed's ticket does not depend on the seeds beside it.
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
class Layout:
    """The first local devices as a mesh of one axis.

    Attributes:
        shares: into how many a batch is cut.
        seeds: how many searches lie side by side, each on a device of its own; with 1, each device has a share of
            the batch.
        whole: the net sees its batch whole (it has batch statistics), so that the compiler shares out the work on
            one batch instead; only with `seeds` 1.
    """

    shares: int = 1
    seeds: int = 1
    whole: bool = False

    @property
    def devices(self) -> int:
        return self.seeds if self.seeds > 1 else self.shares

    @property
    def mesh(self) -> Mesh:
        return Mesh(np.array(jax.local_devices()[: self.devices]), (AXIS,))

    @property
    def axis(self) -> str | None:
        """The mesh axis to sum over inside of a program, if a batch is spread over it."""
        return AXIS if self.seeds == 1 and self.shares > 1 and not self.whole else None

    @property
    def in_turn(self) -> int:
        """How many shares of a batch one device takes, one after the other."""
        return self.shares if self.seeds > 1 else 1

    def everywhere(self, tree: Any) -> Any:
        """The arrays of a tree, whole, on every device."""
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def place(self, tree: Any) -> Any:
        """Arrays that have the axis of seeds in front already, each seed on its device."""
        return jax.device_put(tree, NamedSharding(self.mesh, self._own))

    def stack(self, trees: Sequence[Any]) -> Any:
        """One tree per seed as one with an axis of length `seeds` in front, each seed on its device."""
        return self.place(jax.tree.map(lambda *arrays: _stack(arrays), *trees))

    def program(self, function: Program, own: Sequence[bool]) -> Program:
        """A function of one seed as a function, to be compiled, of all that lie side by side.

        Args:
            function: sees and returns arrays of one seed, without the axis in front.
            own: for each of its arguments whether every seed has its own; the others are whole everywhere.
        """

        def each(*arguments: Any) -> Any:
            without = [_first(a) if mine else a for a, mine in zip(arguments, own, strict=True)]
            return jax.tree.map(lambda a: a[None], function(*without))

        if self.whole:
            return each
        inputs = tuple(self._own if mine else PartitionSpec() for mine in own)
        return jax.shard_map(each, mesh=self.mesh, in_specs=inputs, out_specs=self._own, check_vma=False)

    def share(self, x: Array) -> Array:
        """Inside of a program: this device's part of an axis 0 that is the batch, or all of it."""
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
