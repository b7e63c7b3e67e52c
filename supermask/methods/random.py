"""A random mask of exact density per layer, not learned: the floor of every comparison."""

from dataclasses import dataclass
from typing import ClassVar

from supermask import masks
from supermask.methods._baseline import Baseline
from supermask.types import Array, InitContext, Tree


@dataclass(frozen=True)
class Random(Baseline):
    """Exactly round(density * n) weights are kept, chosen uniformly in each layer, or in all with `global`."""

    paper: ClassVar[str] = "baseline"

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        return masks.uniform_scores(key, weights)
