"""No ranking: the mask is where the final sign is, or is not, the initial one."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from supermask.criteria._criterion import Criterion
from supermask.criteria._signs import agree

MEMBERS = {"large-final-same-sign-single": {}, "large-final-diff-sign-single": {"sign": "diff"}}


@dataclass(frozen=True)
class SignSingle(Criterion):
    """1 where the signs of wi and wf are as asked for, else 0.

    Attributes:
        sign: whether the final sign must be the same as the initial one or differ (diff).
    """

    sign: str = "same"

    fixed: ClassVar[bool] = True

    def score(
        self, initial: np.ndarray, final: np.ndarray, alive: np.ndarray, gradient: np.ndarray | None
    ) -> np.ndarray:
        return agree(self.sign, initial, final).astype(np.float64)
