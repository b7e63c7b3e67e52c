"""Scores networks of a chain that no training of it ends with, such as those that have just forgotten something."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from supermask.engine.pruned import frozen_of
from supermask.experiments.chain import Chain
from supermask.types import Tree


class Placed(NamedTuple):
    """The arguments of an `Evaluator`, on the devices."""

    result: Any
    model_state: Any
    frozen: Any
    seeds: tuple[int, ...]


def placed(chain: Chain, seeds: tuple[int, ...], weights: Sequence[Tree], states: Sequence[Tree]) -> Placed:
    """Put the networks of seeds on the devices. Batch statistics are estimated anew, as those of trained networks are.

    Args:
        weights, states: one per seed.
    """
    trainer = chain.trainer
    padded = (*seeds, *seeds[-1:] * (trainer.sharding.seeds - len(seeds)))
    result, frozen = trainer.place(weights), trainer.place([frozen_of(chain.ones())] * len(seeds))
    state = trainer.steps.batch_statistics(result, trainer.place(states), frozen, padded)
    return Placed(result, state, frozen, padded)


def accuracies(chain: Chain, count: int, networks: Placed, splits: Iterable[str]) -> list[dict[str, float]]:
    """Return the accuracies of the first `count` networks, by split: some of `train`, `val` and `test`."""
    steps = chain.trainer.steps
    found: list[dict[str, float]] = [{} for _ in range(count)]
    for split in splits:
        scorer = chain.test_split if split == "test" else steps.validation if split == "val" else steps.training_split
        sums = scorer(*networks)
        assert sums is not None  # nobody stops it
        for row, accuracy in zip(found, sums.correct[0] / sums.count[0], strict=False):
            row[split] = float(accuracy)
    return found
