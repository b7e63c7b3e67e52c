"""Keeps the weights with the largest synaptic flow, found in many rounds without data; not learned.

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
    """Keeps the largest |w * dR/dw| in `rounds` rounds of falling density.

    R is the sum of the logits for an image of ones, in the network of absolute weights. Round i of n keeps a share of
    density^(i / n) over all layers, ranked by the flow through the weights that the previous round kept.

    Neither data nor signs matter, so weights of one magnitude (signed-constant) are told apart by their index alone.

    Attributes:
        rounds: n, the number of rounds; a single round removes whole layers at low densities.
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
        # The network is homogeneous in each layer, so scaling one layer scales all flows alike and changes no rank.
        # With a mean of one per input, no sum over many wide layers overflows.
        # A layer of zeros, as `--within` may leave one, stays one.
        least = jnp.finfo(jnp.float32).tiny
        size = {name: jnp.abs(w) / (jnp.abs(w).mean() * w[..., 0].size).clip(least) for name, w in weights.items()}
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
