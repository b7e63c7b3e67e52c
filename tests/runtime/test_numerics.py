"""Results do not depend on what the environment, or a caller, has set in JAX."""

import contextlib

import jax
import numpy as np
import pytest

import supermask
from supermask.engine.evaluator import seed_key
from supermask.runtime.numerics import FIXED, fixed_numerics

HELD = [name for name in FIXED if hasattr(jax.config, name)]  # those that this version of JAX has
OTHER = {
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 5,
    "jax_enable_custom_prng": True,
    "jax_legacy_prng_key": "error",
    "jax_high_dynamic_range_gumbel": True,
    "jax_enable_x64": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_default_matmul_precision": "bfloat16",
    "jax_disable_jit": True,
    "jax_no_execution": True,
    "jax_exec_time_optimization_effort": -1.0,
    "jax_debug_nans": True,
    "jax_debug_infs": True,
    "jax_error_checking_behavior_nan": "raise",
    "jax_error_checking_behavior_divide": "raise",
    "jax_error_checking_behavior_oob": "raise",
    "jax_transfer_guard": "disallow",
}
"""Another value for each setting; `jax_default_device` needs a device."""


@contextlib.contextmanager
def set_to(values):
    values = {name: value for name, value in values.items() if name in HELD}
    before = {name: getattr(jax.config, name) for name in values}
    try:
        for name, value in values.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def test_the_fixed_values_are_those_of_jax():
    """So whoever sets nothing gets what they always got."""
    assert {name: getattr(jax.config, name) for name in HELD} == {name: FIXED[name] for name in HELD}


def test_settings_are_named_and_come_back():
    assert {*OTHER, "jax_default_device"} == set(FIXED)
    notes = []
    with set_to(OTHER):
        with contextlib.suppress(ZeroDivisionError), fixed_numerics(notes.append):
            assert {name: getattr(jax.config, name) for name in HELD} == {name: FIXED[name] for name in HELD}
            raise ZeroDivisionError
        assert [name for name in HELD if getattr(jax.config, name) != OTHER.get(name)] == []
    [note] = notes
    assert "JAX_DEFAULT_PRNG_IMPL=rbg" in note
    assert [name for name in HELD if name in OTHER and name.upper() not in note] == []
    with fixed_numerics(notes.append):
        pass
    assert len(notes) == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["bernoulli", "edge-popup"])
def test_no_setting_changes_a_ticket_or_its_accuracy(method):
    config = supermask.SearchConfig(arch="lenet300", width=0.1, epochs=1, method=method)
    [plain] = supermask.search(config)
    with set_to(OTHER):
        [ticket] = supermask.search(config)
        assert supermask.evaluate(ticket, split="validation").reproduced
    assert ticket.to_bytes() == plain.to_bytes()


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_keys_are_of_one_generator(impl):
    with set_to({"jax_default_prng_impl": impl}):
        found = seed_key(7)
    assert np.array_equal(jax.random.key_data(found), [0, 7])  # threefry2x32 puts the seed into the low word
