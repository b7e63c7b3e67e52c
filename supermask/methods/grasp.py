"""Keeps the weights whose removal would hurt gradient flow most, from one Hessian product at the start; not learned.

Wang, Zhang, Grosse: Picking Winning Tickets Before Training by Preserving Gradient Flow. ICLR 2020, arXiv 2002.07376.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from supermask.methods._baseline import Baseline
from supermask.types import Array, InitContext, Recipe, Tree

TEMPERATURE = 200.0
"""Divides the logits (section 4 of the paper's appendix, and its code)."""


@dataclass(frozen=True)
class Grasp(Baseline):
    """Keeps the largest w * (H g) over all layers; g and H are those of the loss over ten images per class.

    The paper's score is the negative of this, and the paper removes the highest scores.
    """

    allocation: str = "global"

    paper: ClassVar[str] = "Wang et al. 2020, arXiv 2002.07376"
    recipe: ClassVar[Recipe] = Recipe(init="kaiming-normal")

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        slope = jax.grad(lambda w: context.loss(w, TEMPERATURE))
        fixed = slope(weights)
        # H g as the gradient of g . fixed, because our convolutions only have a rule for reverse mode.
        product = jax.grad(lambda w: sum(jnp.vdot(g, fixed[name]) for name, g in slope(w).items()))(weights)
        # Temperature and batch make these tiny. A common scale keeps them normal floats and does not change the ranks.
        size = max(float(jnp.abs(weights[name] * p).max()) for name, p in product.items()) or 1.0
        return {name: weights[name] * p / size for name, p in product.items()}

    @property
    def signed_ranks(self) -> bool:
        return True
