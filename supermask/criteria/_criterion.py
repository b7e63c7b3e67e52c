"""Criterion: what a file of this folder defines."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from supermask import registry


@dataclass(frozen=True)
class Criterion(abc.ABC):
    """Scores the weights of one layer; those with the highest scores are kept. NumPy only.

    Attributes:
        needs_gradient: whether `score` is given the loss's gradient at the initial weights.
        fixed: whether the criterion is a mask by itself: a weight is kept where its score is above 0, whatever the
            density.
        paper: the publication of the criterion.
    """

    needs_gradient: ClassVar[bool] = False
    fixed: ClassVar[bool] = False
    paper: ClassVar[str] = "Zhou et al. 2019, arXiv 1905.01067"

    @abc.abstractmethod
    def score(
        self, initial: np.ndarray, final: np.ndarray, alive: np.ndarray, gradient: np.ndarray | None
    ) -> np.ndarray:
        """Return the scores of one layer, shaped like its weights: a pure function.

        Args:
            initial, final: the weights before and after training.
            alive: bool; the scores of weights that are pruned already count for nothing.
            gradient: of the loss with respect to the initial weights, or None unless `needs_gradient`.
        """


def make(name: str) -> Criterion:
    """Return the criterion that a name stands for; `large_final` is `large-final`.

    Raises:
        UsageError: the name is unknown.
    """
    name = full_name(name)
    found: Criterion = registry.load("criteria", name)(**registry.member("criteria", name))
    return found


def full_name(name: str) -> str:
    """The name with hyphens, unless it is a user's own `pkg.module:attr`."""
    return name if registry.is_own("criteria", name) else name.replace("_", "-")
