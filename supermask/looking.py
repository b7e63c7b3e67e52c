"""What a method may see of the network and the training images before it sets its first scores."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from supermask.build import Parts, initial_stats
from supermask.inits import maskable
from supermask.types import Array, Network, Tree

PER_CLASS = 10
"""Training images per class that a loss is taken over (Lee et al. 2019; Wang et al. 2020)."""


def looking(parts: Parts, seed: int, weights: Tree) -> tuple[Tree, Network]:
    """(maskable weights, the network as functions of such) of one seed; `weights` are all of them."""
    model, stats = parts.model, initial_stats(parts.model.stats)
    train = parts.dataset.train

    def logits(maskables: Tree, images: Array, training: bool) -> Array:
        return model.apply(weights | maskables, stats, images, training)[0].astype(jnp.float32)

    def loss(maskables: Tree, temperature: float = 1.0) -> Array:
        chosen = _some_of_each_class(train.labels, seed)
        images, labels = parts.prepare(jnp.asarray(train.images[chosen])), jnp.asarray(train.labels[chosen])
        # Batch statistics are those of the images at hand, as in the first step of a search.
        scaled = logits(maskables, images, True) / temperature
        return optax.softmax_cross_entropy_with_integer_labels(scaled, labels).mean()

    def response(maskables: Tree) -> Array:
        return logits(maskables, jnp.ones((1, *train.images.shape[1:]), jnp.float32), False).sum()

    names = maskable(model.weights)
    return {name: jnp.asarray(weights[name]) for name in names}, Network(
        jax.jit(loss, static_argnums=1), jax.jit(response)
    )


def _some_of_each_class(labels: np.ndarray, seed: int) -> np.ndarray:
    """Indices of PER_CLASS images of each class, or of all that there are."""
    order = np.argsort(np.random.Philox(key=seed).random_raw(len(labels)), kind="stable")
    return np.concatenate([order[labels[order] == label][:PER_CLASS] for label in np.unique(labels)])
