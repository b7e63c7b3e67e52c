"""A random mask with exact density per layer; not learned, the baseline of every comparison."""

from dataclasses import dataclass
from typing import ClassVar

from supermask import masks
from supermask.methods._baseline import Baseline
from supermask.types import Array, InitContext, Tree


@dataclass(frozen=True)
class Random(Baseline):
    """Keeps exactly round(density * n) weights, chosen uniformly in each layer, or over all layers with `global`."""

    paper: ClassVar[str] = "baseline"

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        return masks.uniform_scores(key, weights, context.fans)
