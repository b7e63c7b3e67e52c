"""The order of training examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supermask import SearchConfig
from supermask.data.splits import load_dataset
from supermask.engine.pipeline import pipeline_of
from supermask.errors import UsageError
from supermask.resolve import make_method, resolve


def pipeline(**fields):
    config = resolve(SearchConfig(arch="lenet300", **fields))
    return pipeline_of(config, load_dataset(config), make_method(config), int(config.batch_size))


def test_the_order_of_the_file_or_another_one_is_the_same_in_every_epoch():
    orders = [pipeline(order="file").order(jax.random.key(0), jnp.int32(epoch)) for epoch in (1, 2)]
    np.testing.assert_array_equal(orders, np.tile(np.arange(1293), (2, 1)))
    once = [pipeline(order="once").order(jax.random.key(0), jnp.int32(epoch)) for epoch in (1, 2)]
    np.testing.assert_array_equal(*once)
    np.testing.assert_array_equal(np.sort(once), orders)
    assert not np.array_equal(once, orders)
    assert not np.array_equal(once[0], pipeline(order="once").order(jax.random.key(1), jnp.int32(1)))
    drawn = [pipeline().order(jax.random.key(0), jnp.int32(epoch)) for epoch in (1, 2)]
    assert not np.array_equal(*drawn)
    np.testing.assert_array_equal(np.sort(drawn), orders)


def test_a_method_that_deals_examples_out_has_its_own_order():
    with pytest.raises(UsageError, match="leave out --order"):
        pipeline(order="file", method="fedpm", options={"clients": 2})
    assert pipeline(order="file", method="fedpm").batch_size == 128
