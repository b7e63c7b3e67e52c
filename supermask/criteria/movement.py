"""By how far the weight moved in training, in either direction."""

from dataclasses import dataclass

import numpy as np

from supermask.criteria._criterion import Criterion


@dataclass(frozen=True)
class Movement(Criterion):
    """|wf - wi|."""

    def score(
        self, initial: np.ndarray, final: np.ndarray, alive: np.ndarray, gradient: np.ndarray | None
    ) -> np.ndarray:
        return np.abs(final - initial)
