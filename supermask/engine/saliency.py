"""Shows a method the network and some training examples, so that it can derive its first scores from them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from supermask.data.splits import noun_of
from supermask.engine.evaluator import seed_key
from supermask.engine.frozen import Frozen
from supermask.engine.problem import Problem
from supermask.engine.programs import Start
from supermask.errors import UsageError
from supermask.types import Array, InitContext, Method, Tree
from supermask.weights.parameters import masked_shapes

PER_CLASS = 10
"""Number of training images per class that the loss is taken over (Lee et al. 2019; Wang et al. 2020)."""


def first_scores(problem: Problem) -> Callable[[int, Tree], Start]:
    """Return a function (seed, weights) -> (scores, method_state) for what searches; it compiles only once."""
    method = problem.searcher
    assert method is not None
    saliency = Saliency(problem)

    def start(seed: int, weights: Tree) -> Start:
        key = jax.random.split(seed_key(seed), 3)[0]
        chosen, context = saliency(seed, weights)
        searcher: Method = method
        if isinstance(method, Frozen):  # each seed freezes other weights
            searcher = method.of_seed(method.method, masked_shapes(problem.parameters), seed)
        scores = searcher.init(key, chosen, context)
        scores = {name: scores[name] for name in chosen}
        return scores, searcher.init_state(scores, chosen)

    return start


class Saliency:
    """The network of a problem as functions of one seed's maskable weights."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._loss = jax.jit(self._mean_loss, static_argnums=5)
        self._response = jax.jit(self._summed_outputs)
        self._slope = jax.jit(jax.grad(self._mean_loss, argnums=4), static_argnums=5)

    def __call__(self, seed: int, weights: Tree) -> tuple[Tree, InitContext]:
        """Return (maskable weights, the network as functions of maskable weights); `weights` are all of the seed's."""
        chosen = {name: jnp.asarray(weights[name]) for name in masked_shapes(self._problem.parameters)}
        state = self._problem.initial(seed)[1]
        rest = {name: array for name, array in weights.items() if name not in chosen}

        def loss(maskables: Tree, temperature: float = 1.0) -> Array:
            return self._loss(rest, state, *self._images(seed), maskables, temperature)

        fans = {name: self._problem.parameters[name].fans for name in chosen}
        return chosen, InitContext(loss, partial(self._response, rest, state), fans)

    def gradient(self, seed: int, weights: Tree) -> Tree:
        """Return the gradient of the mean loss over one training batch, by maskable weight, as NumPy arrays.

        The batch has 100 grey or 128 coloured images, as Zhou et al. 2019 take them of MNIST and CIFAR-10; which ones
        depends on the seed alone.
        """
        train, names = self._problem.dataset.train, masked_shapes(self._problem.parameters)
        chosen = {name: weights[name] for name in names}
        rest = {name: array for name, array in weights.items() if name not in chosen}
        some = _order(seed, len(train))[: 100 if train.inputs.shape[-1] == 1 else 128]
        state = self._problem.initial(seed)[1]
        found: Tree = jax.device_get(self._slope(rest, state, train.inputs[some], train.targets[some], chosen, 1.0))
        return found

    def _images(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return PER_CLASS images of each class, or all if there are fewer, and their labels.

        Sequences with a target at each token are of no one class: there are PER_CLASS for each token.
        """
        train = self._problem.dataset.train
        order = _order(seed, len(train))
        labels = train.targets[order]
        if labels.ndim > 1:
            some = order[: PER_CLASS * len(self._problem.dataset.classes)]
            return train.inputs[some], train.targets[some]
        some = np.concatenate([order[labels == label][:PER_CLASS] for label in np.unique(labels)])
        return train.inputs[some], train.targets[some]

    def _outputs(self, weights: Tree, state: Tree, inputs: Array, train: bool) -> Array:
        key = jax.random.key(0) if train else None
        state = jax.tree.map(jnp.asarray, state)  # Flax writes into it, which NumPy does not let a tracer do
        outputs = self._problem.model.apply(weights, state, inputs, train=train, key=key)[0]
        return outputs.astype(jnp.float32)

    def _mean_loss(
        self, rest: Tree, state: Tree, images: Array, labels: Array, maskables: Tree, temperature: float
    ) -> Array:
        """Return the mean loss; as many images at once as in a training step, so it needs no more memory than one."""
        problem, count, predictions = (
            self._problem,
            len(labels),
            len(labels) if labels.ndim == 1 else (labels >= 0).sum(),
        )
        shards = problem.sharding.num_shards * problem.batching.num_microbatches
        # Batch statistics are taken over all images at once, or over ghost batches that divide them.
        size = count if problem.model.changes else min(count, problem.pipeline.batch_size // shards)
        padding = -count % size
        images, labels = _cut(images, size, padding, 0), _cut(labels, size, padding, -1)

        @jax.checkpoint
        def add(total: Array, piece: tuple[Array, Array]) -> tuple[Array, None]:
            x, y = piece
            scaled = self._outputs(rest | maskables, state, problem.pipeline.normalise(x), True) / temperature
            return total + problem.task.loss(scaled, y).loss, None

        return lax.scan(add, jnp.float32(0), (images, labels))[0] / predictions

    def _summed_outputs(self, rest: Tree, state: Tree, maskables: Tree) -> Array:
        if noun_of(self._problem.dataset) != "images":
            raise UsageError(
                f"{self._problem.config.arch} is asked for its response to an input of ones, and tokens have no such "
                "input: take a --method that looks at the data, such as snip, or at neither, such as magnitude"
            )
        ones = jnp.ones((1, *self._problem.dataset.train.inputs.shape[1:]), jnp.float32)
        return self._outputs(rest | maskables, state, ones, False).sum()


def _cut(array: Array, size: int, padding: int, value: int) -> Array:
    """Pad an array with `padding` rows of a value, and cut it into pieces of `size` rows."""
    widths = [(0, padding), *[(0, 0)] * (array.ndim - 1)]
    return jnp.pad(array, widths, constant_values=value).reshape(-1, size, *array.shape[1:])


def _order(seed: int, count: int) -> np.ndarray:
    """A random order of the training images."""
    return np.argsort(np.random.Philox(key=seed).random_raw(count), kind="stable")
