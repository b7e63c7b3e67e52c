"""Compiles a function once, ahead of its first call, and measures the time that takes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import jax

from supermask.runtime import hosts

_VECTORS = "xla_cpu_prefer_vector_width"  # bits; XLA takes 256 unless told, even where a CPU has vectors of 512


class Compiled:
    """A function compiled for the first arguments it is called with; it rejects arguments of other shapes or types.

    Attributes:
        seconds: time spent on tracing and compiling, 0 before the first call.
    """

    def __init__(self, function: Callable[..., Any], **jit_options: Any) -> None:
        self._function = jax.jit(function, **jit_options)
        self._program: Callable[..., Any] | None = None
        self.seconds = 0.0

    def prepare(self, *arguments: Any) -> Callable[..., Any]:
        """Compile for these arguments unless that is done already; return the compiled function."""
        if self._program is None:
            began = time.perf_counter()
            own = jax.default_backend() == "cpu" and _VECTORS not in os.environ.get("XLA_FLAGS", "")
            self._program = self._function.lower(*arguments).compile({_VECTORS: "512"} if own else None)
            self.seconds = time.perf_counter() - began
            hosts.exchange("compiled")  # others may need longer, and the devices wait for each other only for seconds
        return self._program

    def timed(self, *arguments: Any) -> tuple[Any, float]:
        """Run to completion; return the result and the seconds it took, without compiling."""
        program = self.prepare(*arguments)
        began = time.perf_counter()
        result = jax.block_until_ready(program(*arguments))
        return result, time.perf_counter() - began

    def __call__(self, *arguments: Any) -> Any:
        return self.prepare(*arguments)(*arguments)
