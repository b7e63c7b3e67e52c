"""Top-k of |score| among the weights of a layer and as many ghosts, so that each layer finds its own density.

Baremoney: Jackpot, github.com/jbaremoney/Jackpot, 2026 (code and notebooks; we know of no paper).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from supermask import masks
from supermask.methods._numbers import Numbered
from supermask.methods._topk import ahead, check_anneal, on_the_way
from supermask.types import Array, InitContext, Recipe, Shapes, Tree


@dataclass(frozen=True)
class DoubleScoring(Numbered):
    """A layer of n weights has 2n scores; of these, exactly round(density * 2n) with the largest |score| are kept.

    The mask is the half that belongs to weights. Its density d is learned in each layer: for density k it lies between
    2k - 1 and 2k, and is about k at first. dL/ds = G * W * sign(s) for a weight; a ghost has no gradient, so without
    weight decay the ghosts stay as they were drawn, and all scores are measured by them. Scores start from N(0, 1).

    Attributes:
        anneal: share of the search over which the density of the 2n scores falls from one half to its target, as in
            edge-popup.
    """

    anneal: float = 0.0

    paper: ClassVar[str] = "Baremoney 2026, github.com/jbaremoney/Jackpot"
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adam", learning_rate=1e-3, weight_decay=0.0, schedule="constant", init="kaiming-normal"
    )
    signed_ranks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_anneal(self.anneal)

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        """float32 (2, ...): the scores of the weights, then those of the ghosts."""
        twice = {name: jnp.stack([w, w]) for name, w in weights.items()}
        return masks.normal_scores(key, twice, lambda fan_in, fan_out: 1.0)

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        kept = self._kept(scores, ahead(self.anneal, progress))
        return {name: masks.straight_through(kept[name], jnp.abs(s[0])) for name, s in scores.items()}

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        return self._kept(scores)

    def made(self, shapes: Shapes) -> dict[str, int]:
        """How many of the scores of a layer are kept, those of its ghosts included."""
        return {name: masks.kept_count(self.density, 2 * math.prod(shape)) for name, shape in shapes.items()}

    def _kept(self, scores: Tree, left: Array | None = None) -> Tree:
        counts = self.given({name: s.shape[1:] for name, s in scores.items()})
        return {name: masks.top_k(jnp.abs(s), on_the_way(counts[name], s.size, left))[0] for name, s in scores.items()}
