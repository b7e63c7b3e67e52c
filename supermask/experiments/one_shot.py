"""Masks of one network, pruned in one shot from its dense training, at every density. NumPy only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from supermask.criteria._criterion import Criterion
from supermask.masks.ranking import removal_order, removed_count, without
from supermask.types import Tree


class Ranked:
    """The weights of a network, ranked once by a criterion in each layer."""

    def __init__(self, criterion: Criterion, initial: Tree, final: Tree, gradient: Tree | None, key: str) -> None:
        """Rank trees of the masked parameters; `key` names the random stream of ties."""
        self._fixed = criterion.fixed
        self._everything = {name: np.ones(array.shape, bool) for name, array in initial.items()}
        self._scores, self._orders = {}, {}
        for name, alive in self._everything.items():
            slope = gradient[name] if gradient is not None and criterion.needs_gradient else None
            self._scores[name] = criterion.score(initial[name], final[name], alive, slope)
            self._orders[name] = removal_order(self._scores[name], alive, f"{key}/{name}")

    def masks(
        self, keep: Mapping[str, float], rounds: int, densities: Sequence[float]
    ) -> Iterator[tuple[int | None, Tree]]:
        """Yield (round, mask): of rounds 0 to `rounds`, or (None, mask) of each density.

        A criterion that is a mask by itself has a single one, of no round.

        Args:
            keep: by layer; after round k, a layer keeps this to the power of k.
            densities: of each layer, in place of rounds.
        """
        if self._fixed:
            yield None, {name: scores > 0 for name, scores in self._scores.items()}
        elif densities:
            for density in densities:
                yield None, self._kept(dict.fromkeys(keep, density))
        else:
            for number in range(rounds + 1):
                yield number, self._kept({name: fraction**number for name, fraction in keep.items()})

    def _kept(self, fractions: Mapping[str, float]) -> Tree:
        return {
            name: without(alive, self._orders[name][: removed_count(alive.size, fractions[name])])
            for name, alive in self._everything.items()
        }


def random_like(mask: Tree, seed: int) -> Tree:
    """A random mask that keeps as many weights in each layer."""
    found = {}
    for name, array in mask.items():
        everything = np.ones(array.shape, bool)
        order = removal_order(np.zeros(array.shape), everything, f"{seed}/random/{name}")
        found[name] = without(everything, order[: array.size - np.count_nonzero(array)])
    return found


def signed_constants(initial: Tree) -> Tree:
    """The sign of each weight times the standard deviation of its layer."""
    return {
        name: (np.sign(array) * np.std(array, dtype=np.float64)).astype(np.float32) for name, array in initial.items()
    }
