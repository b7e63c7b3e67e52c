"""Scores networks of a chain that no training of it ends with, such as those that have just forgotten something."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from supermask.experiments.chain import Chain
from supermask.types import Tree


def accuracies(
    chain: Chain, seeds: tuple[int, ...], weights: Sequence[Tree], states: Sequence[Tree], splits: Iterable[str]
) -> list[dict[str, float]]:
    """Return the accuracy of each seed's network, by split.

    Batch statistics are estimated anew, as those of a trained network are.

    Args:
        weights, states: one per seed.
        splits: of `train`, `val` and `test`.
    """
    trainer, steps = chain.trainer, chain.trainer.steps
    ones = chain.ones()
    zeros = {name: np.zeros(kept.shape, np.float32) for name, kept in ones.items()}
    padded = (*seeds, *seeds[-1:] * (trainer.sharding.seeds - len(seeds)))
    result, frozen = trainer.place(weights), trainer.place([{"mask": ones, "pruned": zeros}] * len(seeds))
    state = steps.batch_statistics(result, trainer.place(states), frozen, padded)
    found: list[dict[str, float]] = [{} for _ in seeds]
    for split in splits:
        scorer = chain.test_split if split == "test" else steps.validation if split == "val" else steps.training_split
        sums = scorer(result, state, frozen, padded)
        assert sums is not None  # nobody stops it
        for row, accuracy in zip(found, sums.correct[0] / sums.count[0], strict=False):
            row[split] = float(accuracy)
    return found
