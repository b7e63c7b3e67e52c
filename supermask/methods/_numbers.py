"""Shared by methods whose counts are arguments of compiled steps, so that all densities run the same program."""

import copy
from collections.abc import Callable
from typing import Any, ClassVar, Self

from supermask.types import Method, Shapes


class Numbered(Method):
    """A method that makes numbers of shapes, and takes them, or others, back."""

    _given: ClassVar[Any] = None

    def made(self, shapes: Shapes) -> Any:
        """The numbers for maskable weights of these shapes: a pytree of int and float."""
        raise NotImplementedError

    def numbers(self, shapes: Shapes) -> tuple[Any, Callable[[Any], Self]]:
        return self.made(shapes), self._with

    def given(self, shapes: Shapes) -> Any:
        """The numbers that were given, traced, or those that it makes."""
        return self.made(shapes) if self._given is None else self._given

    def _with(self, numbers: Any) -> Self:
        found = copy.copy(self)
        object.__setattr__(found, "_given", numbers)
        return found
