"""By the magnitude of the final weight, alone or only where the sign is still, or no longer, the initial one."""

from dataclasses import dataclass

import numpy as np

from supermask.criteria._criterion import Criterion
from supermask.criteria._signs import agree

MEMBERS = {
    "large-final": {},
    "small-final": {"largest": False},
    "large-final-same-sign": {"sign": "same"},
    "large-final-diff-sign": {"sign": "diff"},
}


@dataclass(frozen=True)
class Final(Criterion):
    """|wf|, or -|wf|; 0 where the signs of wi and wf are not as asked for.

    Weights of score 0 are ties: if more are kept than have the right sign, which of the others is left to chance.

    Attributes:
        largest: whether large weights are kept, not small ones.
        sign: any, or whether the final sign must be the same as the initial one or differ (diff).
    """

    largest: bool = True
    sign: str = "any"

    def score(
        self, initial: np.ndarray, final: np.ndarray, alive: np.ndarray, gradient: np.ndarray | None
    ) -> np.ndarray:
        magnitude = np.abs(final) if self.largest else -np.abs(final)
        return np.where(agree(self.sign, initial, final), magnitude, 0)
