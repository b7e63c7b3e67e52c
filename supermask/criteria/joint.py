"""By the magnitudes of the initial and of the final weight together: both must be large, or both small."""

from dataclasses import dataclass

import numpy as np

from supermask.criteria._criterion import Criterion

MEMBERS = {"large-init-large-final": {}, "small-init-small-final": {"largest": False}}


@dataclass(frozen=True)
class Joint(Criterion):
    """The lower of the two ranks that a weight has by |wi| and by |wf|, among the weights that are alive.

    The paper keeps what is above one percentile q in both rankings and looks for the q that keeps the right number. A
    weight is above q in both exactly if the lower of its ranks is, so ranking by that keeps the same weights.

    Attributes:
        largest: whether large weights are kept, not small ones.
    """

    largest: bool = True

    def score(
        self, initial: np.ndarray, final: np.ndarray, alive: np.ndarray, gradient: np.ndarray | None
    ) -> np.ndarray:
        scores = np.zeros(initial.shape)
        both = [np.abs(values[alive]) for values in (initial, final)]
        ranks = [_ranks(values if self.largest else -values) for values in both]
        scores[alive] = np.minimum(*ranks)
        return scores


def _ranks(values: np.ndarray) -> np.ndarray:
    """How many values are smaller, for each value; equal values have equal ranks."""
    return np.searchsorted(np.sort(values), values)
