"""What a method may see of the network and the training images before it sets its first scores."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from supermask.engine.problem import Parts, initial_stats
from supermask.types import Array, Network, Tree
from supermask.weights.shapes import maskable

PER_CLASS = 10
"""Training images per class that a loss is taken over (Lee et al. 2019; Wang et al. 2020)."""


class Looking:
    """The network of a search as functions of one seed's weights, compiled once for all seeds."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._stats = parts, initial_stats(parts.model.stats)
        self._loss = jax.jit(self._mean_loss, static_argnums=4)
        self._response = jax.jit(self._summed_logits)

    def __call__(self, seed: int, weights: Tree) -> tuple[Tree, Network]:
        """(maskable weights, the network as functions of such); `weights` are all of the seed's."""
        chosen = {name: jnp.asarray(weights[name]) for name in maskable(self._parts.model.weights)}
        rest = {name: array for name, array in weights.items() if name not in chosen}

        def loss(maskables: Tree, temperature: float = 1.0) -> Array:
            return self._loss(rest, *self._images(seed), maskables, temperature)

        return chosen, Network(loss, partial(self._response, rest))

    def _images(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """PER_CLASS images of each class, or all that there are, and their labels."""
        train = self._parts.dataset.train
        order = np.argsort(np.random.Philox(key=seed).random_raw(len(train)), kind="stable")
        labels = train.labels[order]
        some = np.concatenate([order[labels == label][:PER_CLASS] for label in np.unique(labels)])
        return train.images[some], train.labels[some]

    def _logits(self, weights: Tree, x: Array, training: bool) -> Array:
        return self._parts.model.apply(weights, self._stats, x, training)[0].astype(jnp.float32)

    def _mean_loss(self, rest: Tree, images: Array, labels: Array, maskables: Tree, temperature: float) -> Array:
        """Taken over as many images at once as in a step of the search, so that it needs no more memory than one."""
        parts, count = self._parts, len(labels)
        # Batch statistics are those of all images at hand, as in the first step of a search.
        size = count if self._stats else min(count, parts.batch_size // (parts.layout.shares * parts.pieces))
        padding = -count % size
        images = jnp.pad(images, ((0, padding), (0, 0), (0, 0), (0, 0))).reshape(-1, size, *images.shape[1:])
        labels = jnp.pad(labels, (0, padding), constant_values=-1).reshape(-1, size)

        @jax.checkpoint
        def add(total: Array, piece: tuple[Array, Array]) -> tuple[Array, None]:
            x, y = piece
            scaled = self._logits(rest | maskables, parts.prepare(x), True) / temperature
            losses = optax.softmax_cross_entropy_with_integer_labels(scaled, jnp.maximum(y, 0))
            return total + jnp.sum(jnp.where(y >= 0, losses, 0)), None

        return lax.scan(add, jnp.float32(0), (images, labels))[0] / count

    def _summed_logits(self, rest: Tree, maskables: Tree) -> Array:
        ones = jnp.ones((1, *self._parts.dataset.train.images.shape[1:]), jnp.float32)
        return self._logits(rest | maskables, ones, False).sum()
