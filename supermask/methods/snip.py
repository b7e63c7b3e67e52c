"""Keeps the weights whose removal would change the loss most, from one gradient at the start; not learned.

Lee, Ajanthan, Torr: SNIP: Single-shot Network Pruning based on Connection Sensitivity. ICLR 2019, arXiv 1810.02340.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax

from supermask.methods._baseline import Baseline
from supermask.types import Array, InitContext, Recipe, Tree


@dataclass(frozen=True)
class Snip(Baseline):
    """Keeps the largest |w * dL/dw| over all layers; L is the loss over ten images per class."""

    allocation: str = "global"

    paper: ClassVar[str] = "Lee et al. 2019, arXiv 1810.02340"
    recipe: ClassVar[Recipe] = Recipe(init="kaiming-normal")

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        gradient = jax.grad(lambda w: context.loss(w, 1.0))(weights)
        return {name: weights[name] * g for name, g in gradient.items()}
