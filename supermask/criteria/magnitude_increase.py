"""By how much the magnitude grew in training, alone or only where the sign stayed, or changed."""

from dataclasses import dataclass

import numpy as np

from supermask.criteria._criterion import Criterion
from supermask.criteria._signs import agree

MEMBERS = {
    "magnitude-increase": {},
    "magnitude-increase-same-sign": {"sign": "same"},
    "magnitude-increase-diff-sign": {"sign": "diff"},
}


@dataclass(frozen=True)
class MagnitudeIncrease(Criterion):
    """|wf| - |wi|; minus infinity where the signs of wi and wf are not as asked for.

    The published code gives those a score of 0, which is above that of every weight that shrank. Here they always go
    first, as they do under `large-final-same-sign`.

    Attributes:
        sign: any, or whether the final sign must be the same as the initial one or differ (diff).
    """

    sign: str = "any"

    def score(
        self, initial: np.ndarray, final: np.ndarray, alive: np.ndarray, gradient: np.ndarray | None
    ) -> np.ndarray:
        return np.where(agree(self.sign, initial, final), np.abs(final) - np.abs(initial), -np.inf)
