"""Weights that carry most of the flow through the net of absolute weights, found in many rounds; no data, not learned.

Tanaka, Kunin, Yamins, Ganguli: Pruning neural networks without any data by iteratively conserving synaptic flow.
NeurIPS 2020, arXiv 2006.05467.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from supermask import masks
from supermask.errors import UsageError
from supermask.methods._baseline import Baseline
from supermask.types import Array, InitContext, Recipe, Tree


@dataclass(frozen=True)
class Synflow(Baseline):
    """Keeps the largest |w * dR/dw|, R the summed logits for an image of ones, in `rounds` rounds of falling density.

    Round i of n keeps density^(i / n) of all layers together, by the flow through what the round before kept.

    No data and no sign has a say, so weights of one magnitude (signed-constant) are told apart by their index alone.

    Attributes:
        rounds: n; one round collapses layers at low densities.
    """

    allocation: str = "global"
    rounds: int = 100

    paper: ClassVar[str] = "Tanaka et al. 2020, arXiv 2006.05467"
    recipe: ClassVar[Recipe] = Recipe(init="kaiming-normal")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rounds < 1:
            raise UsageError(f"rounds is {self.rounds}; it must be 1 or more")

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        # The net is homogeneous in each layer, so a factor of one scales all flows alike and moves no rank. With a mean
        # of one per input no sum over many wide layers overflows.
        size = {name: jnp.abs(w) / (jnp.abs(w).mean() * w[..., 0].size) for name, w in weights.items()}
        total = sum(w.size for w in weights.values())

        def prune(i: Array, flow: Tree) -> Tree:
            share = jnp.float32(self.density) ** (i.astype(jnp.float32) / self.rounds)
            count = jnp.maximum(1, jnp.round(share * total)).astype(jnp.int32)
            kept = masks.over_layers(masks.top_k, self.ranked(flow), count)
            rest = {name: jnp.where(kept[name], s, 0) for name, s in size.items()}
            return self._flow(rest, context)

        return jax.jit(lambda: lax.fori_loop(1, self.rounds, prune, self._flow(size, context)))()

    @staticmethod
    def _flow(size: Tree, context: InitContext) -> Tree:
        return {name: size[name] * g for name, g in jax.grad(context.response)(size).items()}
