"""How JAX is to set itself up: the device, the number of CPU devices, the cache of compiled programs."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from supermask.errors import UsageError

_chosen: list[str] = []
"""The number of CPU devices that the last call of `choose_device` chose, if there was one."""


def choose_device(device: str, count: int | None = None) -> None:
    """Set JAX up by the environment, before it is imported; variables that a user has set win.

    A CPU becomes as many devices as it has cores, or more if `count` is: two that work on halves of a batch are faster
    than one whose threads share each matrix product.

    Args:
        device: auto, cpu or gpu.
        count: the number of devices that a config asks for.
    """
    import platformdirs

    # The second run of a command compiles nothing. JAX trusts what it finds, so the folder is the user's own.
    cache = os.path.join(platformdirs.user_cache_dir("supermask"), "compiled")
    with suppress(OSError):  # a home that cannot be written to has no cache, and needs no warning
        os.makedirs(cache, mode=0o700, exist_ok=True)
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    # On a shared GPU, taking three quarters of the memory at once is rude; a user who wants it says so.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if os.environ.get("JAX_NUM_CPU_DEVICES") in (None, *_chosen):  # else the user has set it
        _chosen[:] = [str(max(count or 1, cores or 1))]
        os.environ["JAX_NUM_CPU_DEVICES"] = _chosen[0]


def offer_cpu_devices(count: int) -> None:
    """Make a CPU become as many devices, if JAX has been imported but not used yet: later it cannot be told."""
    if "jax" in sys.modules:
        import jax

        option = "jax_num_cpu_devices"  # jax has it, its stubs do not
        with suppress(RuntimeError):
            if count > int(getattr(jax.config, option)):
                jax.config.update(option, count)


def require_device(device: str) -> None:
    """Check that a GPU which was asked for is there; imports JAX only for that.

    Raises:
        UsageError: JAX sees none.
    """
    if device != "gpu":
        return
    import jax

    if jax.default_backend() != "gpu":
        raise UsageError(
            f"--device gpu: JAX sees no GPU, only {jax.default_backend()}; install with pip install 'supermask[cuda]'"
        )
