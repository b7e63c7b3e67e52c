"""Learns which N of every M inputs of an output are kept: a categorical distribution over all such choices per group.

Fang, Yin, Muralidharan, Heinrich, Pool, Kautz, Molchanov, Wang: MaskLLM: Learnable Semi-Structured Sparsity for Large
Language Models. NeurIPS 2024, arXiv 2409.17481. On frozen random weights in place of a pretrained model.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from supermask import masks
from supermask.errors import UsageError
from supermask.types import Array, InitContext, Method, Recipe, Tree

Shares = Callable[[Array, Array | None], Array]
"""(scores (groups, choices, out), key) -> the share of each choice, which add up to 1."""

_LARGEST = 8  # inputs in a group; 4:8 has 70 choices
_FEW = 50  # inputs times choices; 2:4 has 24


@dataclass(frozen=True)
class Maskllm(Method):
    """In training the mask of a group is the mean of all its choices, weighted by a Gumbel softmax of their scores.

    Weights are softmax((scale * s + g) / temperature) with Gumbel noise g; scale rises and temperature falls linearly,
    and the gradient is that of this relaxation. The ticket keeps the choice with the highest score: best and group are
    those of `edge-popup -o pattern=2:4`, an incomplete last group included. A density between those of a group is
    rounded to the nearest of them. There is no prior, and no reward for large kept weights, for random weights are
    alike; the optimiser and its learning rate are ours.

    Attributes:
        group: M, the number of inputs in a group, up to 8; N is density * M, rounded, and at least 1.
        scale: factor of the scores at the start.
        final_scale: the same at the end.
        temperature: temperature of the softmax at the start.
        final_temperature: the same at the end.
    """

    group: int = 4
    scale: float = 100.0
    final_scale: float = 500.0
    temperature: float = 4.0
    final_temperature: float = 0.05

    chooses_in_groups: ClassVar[bool] = True  # a score is that of a choice, not of a weight
    paper: ClassVar[str] = "Fang et al. 2024, arXiv 2409.17481"
    recipe: ClassVar[Recipe] = Recipe(optimizer="adam", learning_rate=1e-3, weight_decay=0.0)

    def __post_init__(self) -> None:
        if not 1 <= self.group <= _LARGEST:
            raise UsageError(f"group is {self.group}; it must be from 1 to {_LARGEST}")
        if min(self.scale, self.final_scale, self.temperature, self.final_temperature) <= 0:
            raise UsageError("scale, final_scale, temperature and final_temperature must be above 0")

    @property
    def best(self) -> int:
        """N, the number of inputs of a group that are kept."""
        return masks.kept_count(self.density, self.group)

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        """float32 (K, ...), where K arrays like the weights have room for the scores of all choices of a group."""
        room = math.ceil(math.comb(self.group, self.best) / self.group)
        filled = {name: jnp.stack([w] * room) for name, w in weights.items()}
        return masks.normal_scores(key, filled, lambda fan_in, fan_out: 0.01)

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        scale = self.scale + (self.final_scale - self.scale) * progress
        temperature = self.temperature + (self.final_temperature - self.temperature) * progress

        def weighted(s: Array, noise_key: Array | None) -> Array:
            return jax.nn.softmax((scale * s + masks.gumbel(noise_key, s.shape)) / temperature, axis=1)

        return {name: self._each_group(s, weighted, masks.key_for(key, name)) for name, s in scores.items()}

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        def highest(s: Array, _: Array | None) -> Array:
            return jax.nn.one_hot(s.argmax(1), s.shape[1], axis=1, dtype=jnp.float32)

        return {name: self._each_group(s, highest, None) > 0 for name, s in scores.items()}

    def _each_group(self, scores: Array, shares: Shares, key: Array | None) -> Array:
        """The mean of the choices of each group, weighted by what `shares` makes of scores (groups, choices, out)."""
        shape = scores.shape[1:]
        rows = scores.reshape(len(scores), -1, shape[-1])
        whole = rows.shape[1] // self.group * self.group
        parts = [self._mean(rows[:, :whole], self.group, shares, key)] if whole else []
        if whole < rows.shape[1]:
            last = None if key is None else jax.random.fold_in(key, 1)
            parts.append(self._mean(rows[:, whole:], rows.shape[1] - whole, shares, last))
        return jnp.concatenate(parts).reshape(shape)

    def _mean(self, rows: Array, size: int, shares: Shares, key: Array | None) -> Array:
        """As `_each_group`, for groups of `size` inputs; rows are (K, inputs, out)."""
        choices = _choices(size, math.ceil(self.best * size / self.group))
        room, inputs, out = rows.shape
        slots = rows.reshape(room, inputs // size, size, out).swapaxes(0, 1).reshape(-1, room * size, out)
        weight = shares(slots[:, : len(choices)], key)
        return _kept(choices)(weight).reshape(inputs, out)


def _kept(choices: np.ndarray) -> Callable[[Array], Array]:
    """Shares (groups, choices, out) -> the sum of those that keep an input, (groups, inputs, out).

    The gradient is written out: that of a sum of slices would be an array of all choices for each slice, three times
    the time of the whole on a CPU.
    """

    @jax.custom_vjp
    def kept(shares: Array) -> Array:
        return _sums(choices.T, shares)

    def forward(shares: Array) -> tuple[Array, None]:
        return kept(shares), None

    def backward(_: None, slopes: Array) -> tuple[Array]:
        return (_sums(choices, slopes),)

    kept.defvjp(forward, backward)
    return kept


def _sums(of: np.ndarray, array: Array) -> Array:
    """Multiply `of` (rows, columns), 0 or 1, by an array (groups, columns, out): by sums if they are few."""
    if of.size > _FEW:
        return jnp.einsum("rc,gco->gro", jnp.asarray(of, array.dtype), array, precision=lax.Precision.HIGHEST)
    return jnp.stack([sum(array[:, c] for c in np.flatnonzero(row)) for row in of], axis=1)


def _choices(size: int, best: int) -> np.ndarray:
    """All ways to keep `best` of `size` inputs, bool (choices, size)."""
    return np.array([[i in kept for i in range(size)] for kept in combinations(range(size), best)])
