"""Tells whether networks predict the same class for every example."""

from __future__ import annotations

from typing import Any

import numpy as np

from supermask.engine.evaluator import Evaluator


def constant_class(
    evaluator: Evaluator, labels: np.ndarray, classes: int, result: Any, model_state: Any, frozen: Any, seeds: Any
) -> list[int | None]:
    """Return the class that each seed's network predicts for all examples of a split, or None.

    Nothing is compiled: the evaluator's program counts right predictions, and with the same label everywhere those are
    the predictions of that class. Only classes with as many examples as are right need such a count.

    Args:
        evaluator: of the split with these labels.
        classes: number of classes.
        result, model_state, frozen, seeds: see `Evaluator.__call__`; of a sampled mask the first draw is judged.
    """

    def right(scorer: Evaluator) -> np.ndarray:
        sums = scorer(result, model_state, frozen, seeds)
        assert sums is not None  # nobody stops it
        return np.asarray(sums.correct[0])

    known = labels >= 0
    total, sizes, correct = known.sum(), np.bincount(labels[known], minlength=classes), right(evaluator)
    found: list[int | None] = [None] * len(correct)
    for label in np.flatnonzero(np.isin(sizes, correct)):
        everywhere = right(evaluator.relabelled(np.where(known, label, labels).astype(labels.dtype)))
        found = [int(label) if count == total else old for count, old in zip(everywhere, found, strict=True)]
    return found
