"""By the magnitude of the loss's gradient at the initial weights."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from supermask.criteria._criterion import Criterion


@dataclass(frozen=True)
class Gradient(Criterion):
    """|g|; no training is needed."""

    needs_gradient: ClassVar[bool] = True

    def score(
        self, initial: np.ndarray, final: np.ndarray, alive: np.ndarray, gradient: np.ndarray | None
    ) -> np.ndarray:
        assert gradient is not None
        return np.abs(gradient)
