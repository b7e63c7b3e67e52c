"""A genetic algorithm over masks, without gradients: a control for small networks.

Altmann, Schoenberger, Zorn, Gabor: Finding Strong Lottery Ticket Networks with Genetic Algorithms. IJCCI 2024,
arXiv 2411.04658.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from supermask import masks
from supermask.errors import UsageError
from supermask.types import Array, Clock, InitContext, Method, Recipe, Tree


@dataclass(frozen=True)
class Genetic(Method):
    """The scores are a population of masks, drawn at the start, each weight kept with probability `density`.

    A step tries one mask, so a generation takes `population` steps; all masks of a generation see the same images,
    each with an augmentation and dropout of its own, and an epoch shows each image `population` times. After a
    generation, the `parents` of lowest loss go on unchanged, and all others are replaced: each new mask takes every
    weight from either of two parents, drawn for it, and flips it with probability `mutation`. The result is the
    best mask of the last generation. Neither density nor optimiser has a say after the start. The published
    algorithm differs: its fitness is the accuracy on the whole training set, and evolution is followed by pruning.

    Attributes:
        population: number of masks, 2 or more.
        parents: number of those that go on, from 1 to population - 1.
        mutation: probability, from 0 to 1.
    """

    population: int = 16
    parents: int = 4
    mutation: float = 0.001

    paper: ClassVar[str] = "Altmann et al. 2024, arXiv 2411.04658"
    recipe: ClassVar[Recipe] = Recipe(weight_decay=0.0, schedule="constant")
    least_epochs: ClassVar[int] = 100

    def __post_init__(self) -> None:
        if self.population < 2:
            raise UsageError(f"population is {self.population}; it must be 2 or more")
        if not 1 <= self.parents < self.population:
            raise UsageError(f"parents is {self.parents}; it must be from 1 to population - 1 = {self.population - 1}")
        if not 0 <= self.mutation <= 1:
            raise UsageError(f"mutation is {self.mutation}; it must be from 0 to 1")

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        """float32 (population, ...), 0 or 1."""
        chances = {name: jnp.full((self.population, *w.shape), self.density) for name, w in weights.items()}
        return {name: kept.astype(jnp.float32) for name, kept in masks.bernoulli(key, chances).items()}

    def init_state(self, scores: Tree, weights: Tree) -> dict[str, Array]:
        """The number of the mask that is tried next, and the losses of those tried in this generation."""
        return {"turn": jnp.float32(0), "losses": jnp.zeros(self.population, jnp.float32)}

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array, state: Any = None) -> Tree:
        turn = 0 if state is None else state["turn"].astype(jnp.int32)
        return {name: lax.stop_gradient(scores[name])[turn] for name in weights}

    def harden(self, scores: Tree, weights: Tree) -> Tree:
        """The first: parents stand before their children, the best one in front."""
        return {name: s[0] > 0.5 for name, s in scores.items()}

    def after_update(
        self, scores: Tree, state: Any, before: Tree, weights: Tree, *, key: Array, clock: Clock, loss: Array = 0.0
    ) -> tuple[Tree, Any]:
        turn = state["turn"].astype(jnp.int32)
        losses = state["losses"].at[turn].set(loss)
        last = turn == self.population - 1
        # What the optimiser did to the scores is dropped: without a gradient, it could only decay them.
        bred = lax.cond(last, lambda: self._bred(before, losses, key), lambda: before)
        return bred, {"turn": jnp.where(last, 0.0, state["turn"] + 1), "losses": losses}

    def _bred(self, population: Tree, losses: Array, key: Array) -> Tree:
        """The next generation."""
        best = jnp.argsort(losses)[: self.parents]
        children = self.population - self.parents
        pairs = best[jax.random.randint(jax.random.fold_in(key, 1), (2, children), 0, self.parents)]
        noise = masks.uniform_noise(key, {name: s[:children] for name, s in population.items()})
        bred = {}
        for name, s in population.items():
            u = noise[name]  # for both draws: below a half the first parent's, and flipped next to either end
            child = jnp.where(u < 0.5, s[pairs[0]], s[pairs[1]])
            flipped = jnp.abs(u - 0.5) > 0.5 - self.mutation / 2
            bred[name] = jnp.concatenate([s[best], jnp.where(flipped, 1 - child, child)])
        return bred

    def steps_per_epoch(self, count: int, size: int) -> int:
        return self.population * (count // size)

    def order(self, key: Array, epoch: Array, count: int, size: int) -> Array:
        """Each batch of a random permutation `population` times in a row."""
        batches = count // size
        images = jax.random.permutation(jax.random.fold_in(key, epoch), count)[: batches * size]
        return jnp.repeat(images.reshape(batches, size), self.population, axis=0).ravel().astype(jnp.int32)
