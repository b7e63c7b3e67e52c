"""A function compiled once, ahead of its first call, with the time that took kept apart."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax


class Compiled:
    """Compiles for the first arguments it is called with; others of another shape or type are refused.

    Attributes:
        seconds: spent on tracing and compiling, 0 before the first call.
    """

    def __init__(self, function: Callable[..., Any], **jit_options: Any) -> None:
        self._function = jax.jit(function, **jit_options)
        self._program: Callable[..., Any] | None = None
        self.seconds = 0.0

    def prepare(self, *arguments: Any) -> Callable[..., Any]:
        """Compile for these arguments, unless it is."""
        if self._program is None:
            began = time.perf_counter()
            self._program = self._function.lower(*arguments).compile()
            self.seconds = time.perf_counter() - began
        return self._program

    def timed(self, *arguments: Any) -> tuple[Any, float]:
        """The result, once it is there, and the seconds that took, compiling left out."""
        program = self.prepare(*arguments)
        began = time.perf_counter()
        result = jax.block_until_ready(program(*arguments))
        return result, time.perf_counter() - began

    def __call__(self, *arguments: Any) -> Any:
        return self.prepare(*arguments)(*arguments)
