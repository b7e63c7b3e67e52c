"""JAX's settings that results depend on: the same in every run, whatever the environment says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

FIXED: dict[str, Any] = {
    # Random numbers.
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_enable_custom_prng": False,
    "jax_legacy_prng_key": "allow",
    "jax_high_dynamic_range_gumbel": False,
    # Types, shapes and precision; `--precision` is the option.
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_default_matmul_precision": None,
    # What is computed, and where; `--device` is the option.
    "jax_disable_jit": False,
    "jax_no_execution": False,
    "jax_exec_time_optimization_effort": 0.0,
    "jax_default_device": None,
    # Checks that end a run with an error of their own.
    "jax_debug_nans": False,
    "jax_debug_infs": False,
    "jax_error_checking_behavior_nan": "ignore",
    "jax_error_checking_behavior_divide": "ignore",
    "jax_error_checking_behavior_oob": "ignore",
    "jax_transfer_guard": None,
}
"""Names and values in `jax.config`; the values are JAX's own defaults."""


@contextmanager
def fixed_numerics(note: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Within this context, JAX has the settings in FIXED; afterwards it has those of before. Imports JAX.

    Args:
        note: told which settings were other ones, if any.
    """
    import jax

    held = {name: getattr(jax.config, name) for name in FIXED if hasattr(jax.config, name)}
    other = {name: value for name, value in held.items() if value != FIXED[name]}
    if other:
        named = ", ".join(f"{name.upper()}={value}" for name, value in other.items())
        note(f"note: {named} has no effect here: results would depend on it")
    try:
        for name in other:
            jax.config.update(name, FIXED[name])
        yield
    finally:
        for name, value in other.items():
            jax.config.update(name, value)
