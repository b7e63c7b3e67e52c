"""The base class of methods that keep an exact number of weights, some of which the seed may fix beforehand.

Otsuka, Chijiwa, Garcia-Arias et al., TMLR 2025, arXiv 2402.14029. How the rest is searched is in `engine.frozen`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from supermask.errors import UsageError
from supermask.types import Method


@dataclass(frozen=True)
class Freezing(Method):
    """A method that searches only among the weights that are not frozen; the density is still of all of them.

    Attributes:
        freeze_pruned: share of each layer's weights that are removed for good, chosen by the seed.
        freeze_kept: share of each layer's weights that are kept for good, chosen by the seed.
    """

    freeze_pruned: float = 0.0
    freeze_kept: float = 0.0

    added: ClassVar[Mapping[str, Any]] = {"freeze_pruned": 0.0, "freeze_kept": 0.0}

    def __post_init__(self) -> None:
        pruned, kept = self.freeze_pruned, self.freeze_kept
        if pruned < 0 or kept < 0 or pruned + kept >= 1:
            raise UsageError(
                f"freeze_pruned is {pruned:g} and freeze_kept {kept:g}; both must be at least 0, and their sum below 1"
            )
        if not kept <= self.density <= round(1 - pruned, 12):
            raise UsageError(
                f"density {self.density:g} is of all weights: with freeze_pruned {pruned:g} and freeze_kept {kept:g} "
                f"it must be from {kept:g} to {1 - pruned:g}"
            )

    @property
    def is_frozen(self) -> bool:
        """Whether some weights are not searched."""
        return self.freeze_pruned + self.freeze_kept > 0
