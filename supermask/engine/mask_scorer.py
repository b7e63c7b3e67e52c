"""Scores one set of weights under many masks without any training: as many masks at a time as there are devices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import jax

from supermask.core import weight_training
from supermask.engine.batch_statistics import BatchStatistics
from supermask.engine.evaluator import Evaluator
from supermask.engine.problem import Problem
from supermask.types import Tree


class Score(NamedTuple):
    """Accuracies as fractions and mean losses."""

    val_accuracy: float
    val_loss: float
    test_accuracy: float
    test_loss: float


class MaskScorer:
    """Scores on the validation and on the test split, each with one compiled program for whatever weights and masks."""

    def __init__(self, problem: Problem) -> None:
        # Batch statistics are sums over all devices, so such networks take turns.
        side = problem.side_by_side(1 if problem.model.changes else int(problem.config.devices or 1))
        self._side = side
        splits = problem.dataset.validation, problem.dataset.test
        assert splits[0] is not None
        self._evaluators = [Evaluator(problem, weight_training, split, side) for split in splits if split is not None]
        self._statistics = BatchStatistics(problem, weight_training, side)

    def __call__(self, weights: Tree, state: Tree, masks: Iterable[Tree], seed: int) -> Iterator[Score]:
        """Score all parameters `weights` under each mask, in order.

        Args:
            state: where the estimate of each mask's batch statistics starts.
            seed: says which training batches they are estimated from.
        """
        stacked = self._stacked([weights]), self._stacked([state])
        waiting = iter(masks)
        while some := list(islice(waiting, self._side.seeds)):
            frozen = self._stacked(some)
            own = self._statistics(stacked[0], stacked[1], frozen, [seed] * self._side.seeds)
            yield from self._scores(stacked[0], own, frozen, seed)[: len(some)]

    def as_they_are(self, weights: Tree, state: Tree, mask: Tree, seed: int) -> Score:
        """Score with these batch statistics, not with new ones."""
        return self._scores(self._stacked([weights]), self._stacked([state]), self._stacked([mask]), seed)[0]

    def _scores(self, weights: Any, state: Any, mask: Any, seed: int) -> list[Score]:
        columns = []
        for evaluator in self._evaluators:
            sums = evaluator(weights, state, mask, [seed] * self._side.seeds)
            assert sums is not None  # nobody stops it
            columns += [(sums.correct / sums.count)[0], (sums.loss / sums.count)[0]]
        return [Score(*map(float, row)) for row in zip(*columns, strict=True)]

    def _stacked(self, trees: Any) -> Any:
        """One tree per device; the last one fills up."""
        trees = jax.device_get(list(trees))
        return self._side.stack_seeds(trees + trees[-1:] * (self._side.seeds - len(trees)))
