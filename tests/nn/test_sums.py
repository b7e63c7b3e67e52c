"""Sums over devices in one order, against the sum that XLA makes on the devices of one process."""

from functools import partial

import jax
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from supermask.nn import sums

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def over_devices(function, *arrays):
    """Arrays have an axis of devices in front; so has the result, unless it is a number."""
    mesh = Mesh(np.array(jax.local_devices()[:2]), ("devices",))
    own = PartitionSpec("devices")
    each = lambda *parts: jax.tree.map(lambda a: a[None], function(*(part[0] for part in parts)))  # noqa: E731
    return jax.jit(jax.shard_map(each, mesh=mesh, in_specs=own, out_specs=own, check_vma=False))(*arrays)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5)])
def test_the_sum_is_that_of_one_process_bit_for_bit(shape):
    rng = np.random.default_rng(0)
    array = np.float32(rng.standard_normal((2, *shape)) * 10.0 ** rng.integers(-4, 4, (2, *shape)))
    found = over_devices(partial(sums._in_order, axis="devices"), array)
    np.testing.assert_array_equal(found, over_devices(lambda a: lax.psum(a, "devices"), array))
    np.testing.assert_array_equal(found[0], array[0] + array[1])
    np.testing.assert_array_equal(found[1], found[0])


def test_so_is_its_derivative():
    array, weights = np.random.default_rng(0).standard_normal((2, 2, 5)).astype(np.float32)

    def slope(total):
        return over_devices(jax.grad(lambda a, w: (w * total(a) ** 2).sum()), array, weights)

    np.testing.assert_array_equal(
        slope(partial(sums._in_order, axis="devices")), slope(lambda a: lax.psum(a, "devices"))
    )


def test_whole_numbers_stay_such():
    found = over_devices(partial(sums._in_order, axis="devices"), np.int32([[2**30], [2**30 - 1]]))
    assert found.dtype == np.int32
    assert found.tolist() == [[2**31 - 1]] * 2
