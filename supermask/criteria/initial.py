"""By the magnitude of the initial weight."""

from dataclasses import dataclass

import numpy as np

from supermask.criteria._criterion import Criterion

MEMBERS = {"large-init": {}, "small-init": {"largest": False}}


@dataclass(frozen=True)
class Initial(Criterion):
    """|wi|, or -|wi|.

    Attributes:
        largest: whether large weights are kept, not small ones.
    """

    largest: bool = True

    def score(
        self, initial: np.ndarray, final: np.ndarray, alive: np.ndarray, gradient: np.ndarray | None
    ) -> np.ndarray:
        return np.abs(initial) if self.largest else -np.abs(initial)
