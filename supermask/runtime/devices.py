"""How JAX is to set itself up: the device, the number of CPU devices, the cache of compiled programs."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

from supermask.errors import UsageError, one_line
from supermask.runtime.memory import cores
from supermask.runtime.places import cache_folder, expand

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
    _choose_cache()
    # On a shared GPU, taking three quarters of the memory at once is rude; a user who wants it says so.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ.pop("JAX_PLATFORM_NAME", None)
    if os.environ.get("JAX_NUM_CPU_DEVICES") in (None, *_chosen):  # else the user has set it
        _chosen[:] = [str(max(count or 1, cores()))]
        os.environ["JAX_NUM_CPU_DEVICES"] = _chosen[0]


def _choose_cache() -> None:
    """Let JAX keep compiled programs, so that the second run of a command compiles nothing."""
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    named = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if named is not None:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(expand(named)) if named else ""
    elif (folder := cache_folder()) is not None:
        with suppress(OSError):  # a home that cannot be written to has no cache, and needs no warning
            # JAX trusts what it finds, so the folder is the user's own.
            os.makedirs(folder / "compiled", mode=0o700, exist_ok=True)
            os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")


def offer_cpu_devices(count: int) -> None:
    """Make a CPU become as many devices, if JAX has been imported but not used yet: later it cannot be told."""
    if "jax" in sys.modules:
        import jax

        option = "jax_num_cpu_devices"  # jax has it, its stubs do not
        with suppress(RuntimeError):
            if count > int(getattr(jax.config, option)):
                jax.config.update(option, count)


def require_device(device: str) -> None:
    """Import JAX, start it, and check that a GPU which was asked for is there.

    Raises:
        UsageError: JAX does not start in this environment, or sees no GPU.
    """
    if "jax" not in sys.modules:
        _check_xla_flags()
    try:
        import jax

        found = jax.default_backend()
    except Exception as error:  # of any type: a ValueError for a bad value, a RuntimeError or an AssertionError
        raise UsageError(_why(error)) from error
    if device == "gpu" and found != "gpu":
        raise UsageError(
            f"--device gpu: JAX sees no GPU, only {found}{''.join(f' ({text})' for text in _platform())}; "
            "install with pip install 'supermask[cuda]'"
        )


def _platform() -> list[str]:
    """The variables in the environment that name the device."""
    return [f"{name}={os.environ[name]}" for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME") if os.environ.get(name)]


def _why(error: Exception) -> str:
    """Say why JAX does not start, and what in the environment may be to blame."""
    said = one_line(error) if str(error) else "there is no such device here"
    named = [text for text in _platform() if not text.endswith("=cpu")]
    if named:
        return f"JAX cannot start with {' '.join(named)}: {said}; unset it, or give --device cpu"
    other = [name for name, value in os.environ.items() if name.startswith("JAX_") and _is_about(said, name, value)]
    return f"JAX cannot start: {said}" + (f"; correct or unset {' or '.join(other)}" if other else "")


def _is_about(said: str, name: str, value: str) -> bool:
    return name.lower() in said.lower() or f"'{value}'" in said


def _check_xla_flags() -> None:
    """Try XLA_FLAGS in another process, if it is set: XLA ends a process that has an unknown flag.

    Raises:
        UsageError: it has one.
    """
    flags = os.environ.get("XLA_FLAGS", "").strip()
    if not flags:
        return
    words = [sys.executable, "-P", "-c", "import jaxlib.xla_client as xla; xla.CompileOptions()"]
    tried = subprocess.run(words, capture_output=True, check=False)
    said = tried.stderr.decode(errors="replace").strip()
    if tried.returncode and "Traceback" not in said:  # else jaxlib has no such module, and we know nothing
        why = said.splitlines()[0].partition("] ")[2].rstrip(".")
        raise UsageError(f"XLA_FLAGS={flags}: {why}; correct or unset it")
