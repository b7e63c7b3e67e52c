"""Binary weights: replaces each kept weight by its sign times one gain per layer.

Diffenderfer, Kailkhura: Multi-Prize Lottery Ticket Hypothesis: Finding Accurate Binary Neural Networks by Pruning a
Randomly Weighted Network. ICLR 2021, arXiv 2103.09377. The global, annealed variant: A Winning Hand, NeurIPS 2021,
arXiv 2106.09129.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from supermask import masks
from supermask.methods._topk import TopK
from supermask.types import Array, InitContext, Recipe, Tree


@dataclass(frozen=True)
class Biprop(TopK):
    """Top-k of |score|. Effective weights are gain * mask * sign(w); gain is the mean |w| of a layer's kept weights.

    The gradient is that of edge-popup, dL/ds = G * W * sign(s); the gain does not enter it. If all weights have one
    magnitude (signed-constant), the gain equals it and the method is the same as edge-popup. The global variant is
    `-o allocation=global -o anneal=0.04` (10 of 250 epochs). `--scale-by-density` divides the weights by sqrt(density)
    as the paper says, on purpose: the published code divides by sqrt(1 - density).
    """

    paper: ClassVar[str] = "Diffenderfer & Kailkhura 2021, arXiv 2103.09377"
    recipe: ClassVar[Recipe] = Recipe(init="kaiming-normal")

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        return masks.uniform_scores(key, weights, context.fans)

    def effective(self, weights: Tree, mask: Tree) -> Tree:
        product = super().effective(weights, mask)
        return {
            name: masks.straight_through(
                jnp.sign(weights[name]) * mask[name] * (abs(p).sum() / mask[name].sum().clip(1.0)), p
            )
            for name, p in product.items()
        }
