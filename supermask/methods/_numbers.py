"""Shared by methods whose counts are arguments of compiled steps, so that all densities run the same program."""

import abc
import copy
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Self

from supermask.types import Method, Shapes


class Numbered(Method):
    """A method that makes numbers of shapes, and takes them, or others, back."""

    _given: ClassVar[tuple[Shapes | None, Any]] = (None, None)

    @abc.abstractmethod
    def made(self, shapes: Shapes) -> Any:
        """The numbers for maskable weights of these shapes: a pytree of int and float."""

    def numbers(self, shapes: Shapes) -> tuple[Any, Callable[[Any], Self]]:
        return self.made(shapes), partial(self._with, shapes)

    def given(self, shapes: Shapes) -> Any:
        """The numbers that were given, traced, if they are for these shapes; else those that it makes."""
        of, numbers = self._given
        return numbers if of == shapes else self.made(shapes)

    def _with(self, shapes: Shapes, numbers: Any) -> Self:
        found = copy.copy(self)
        object.__setattr__(found, "_given", (shapes, numbers))
        return found
