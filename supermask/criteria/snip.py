"""By |gradient x weight| at the initial weights: how much the loss would change without the weight.

Lee, Ajanthan, Torr: SNIP: Single-shot Network Pruning based on Connection Sensitivity. ICLR 2019, arXiv 1810.02340.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from supermask.criteria._criterion import Criterion


@dataclass(frozen=True)
class Snip(Criterion):
    """|g * wi|; no training is needed."""

    needs_gradient: ClassVar[bool] = True
    paper: ClassVar[str] = "Lee et al. 2019, arXiv 1810.02340"

    def score(
        self, initial: np.ndarray, final: np.ndarray, alive: np.ndarray, gradient: np.ndarray | None
    ) -> np.ndarray:
        assert gradient is not None
        return np.abs(gradient * initial)
