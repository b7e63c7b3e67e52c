"""The base class of soft methods, which keep as many weights as their scores say, and may be told how many.

How the number is held is in `engine.lagrangian`, the same for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from supermask.errors import require
from supermask.types import Array, Method, Tree

LAGRANGIAN = "lagrangian"
CONTROLS = ("none", LAGRANGIAN)


@dataclass(frozen=True)
class Controlled(Method):
    """A method whose scores, one for each weight, decide how many weights are kept: the higher, the more.

    Attributes:
        control: `lagrangian` makes `density` a target: a multiplier pulls all scores so that the kept share falls to it
            over the first half of the search, and stays there. Scores start at one half then, if the target is lower.
            `none` leaves the share to the scores.
    """

    control: str = "none"

    signed_ranks: ClassVar[bool] = True
    added: ClassVar[Mapping[str, Any]] = {"control": "none"}

    def __post_init__(self) -> None:
        require("control", self.control, CONTROLS)

    @property
    def is_controlled(self) -> bool:
        """Whether `density` is a target."""
        return self.control == LAGRANGIAN

    @property
    def start(self) -> float:
        """The density at the start, of methods that choose it."""
        return max(0.5, self.density) if self.is_controlled else self.density

    def expected(self, scores: Tree, *, progress: Array) -> Tree | None:
        """Return the probability, or the share, of each weight in the mask of training; None if it is that hardened."""
        return None

    def lowered(self, scores: Tree, price: Array) -> Tree:
        """Return the scores that keep fewer weights, for a price above 0, or more of them."""
        return {name: s - price for name, s in scores.items()}


def total(values: Tree) -> Array:
    """The sum over all layers: of the probabilities of `expected`, the number of weights kept on average."""
    return sum((array.sum() for array in values.values()), jnp.float32(0))
