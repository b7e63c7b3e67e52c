"""The idea: multiply frozen weights by a mask, apply the network to the product, take the gradient of the scores alone.

A step is written for anything trainable and anything frozen. `mask_search` trains scores over frozen weights;
`weight_training` swaps the roles and trains weights under a frozen mask. No method, arch or dataset is named here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from supermask import masks
from supermask.nn.sums import averaged, summed
from supermask.types import Array, Clock, Method, Model, Shapes, Sums, Task, Tree


class TrainState(NamedTuple):
    """Everything that changes from step to step.

    Attributes:
        trainable: the arrays that the optimiser updates: scores, or weights.
        optimizer: the optimiser's state.
        model_state: batch statistics and the like, as the steps update them; a result is scored with its own.
        method_state: a method's state other than its scores, see `Method.init_state`.
    """

    trainable: Tree
    optimizer: Any
    model_state: Tree
    method_state: Any


@dataclass(frozen=True)
class Parametrization:
    """How trainable arrays become effective weights, and what happens after each update.

    Attributes:
        weights: (trainable, method_state, frozen, key, clock) -> (effective weights, penalty).
        result: (trainable, method_state, frozen) -> the result: the hardened mask, or the trained weights.
        result_weights: (result, frozen, key) -> the effective weights of a result, float32.
        density: (result, frozen) -> fraction of maskable weights kept.
        after_update: (trainable, method_state, previous trainable, frozen, key, clock, loss) -> (trainable,
            method_state).
        resets_optimizer: (clock) -> whether to reset the optimiser's moments.
        numbers: (shapes of the masked weights) -> (arguments of compiled steps, arguments -> the same with them; None
            if there are none).
    """

    weights: Callable[[Tree, Any, Tree, Array, Clock], tuple[Tree, Array]]
    result: Callable[[Tree, Any, Tree], Tree]
    result_weights: Callable[[Tree, Tree, Array], Tree]
    density: Callable[[Tree, Tree], Array]
    after_update: Callable[[Tree, Any, Tree, Tree, Array, Clock, Array], tuple[Tree, Any]] = (
        lambda trainable, method_state, before, frozen, key, clock, loss: (trainable, method_state)
    )
    resets_optimizer: Callable[[Clock], Array | bool] = lambda clock: False
    numbers: Callable[[Shapes], tuple[Any, Callable[[Any], Parametrization] | None]] = lambda shapes: ({}, None)


def asked(function: Callable[..., Any], **offered: Any) -> dict[str, Any]:
    """Those of the keyword arguments that a method's function takes, such as its `state`."""
    return {name: value for name, value in offered.items() if name in inspect.signature(function).parameters}


def mask_search(method: Method, trained: Collection[str] = ()) -> Parametrization:
    """The parametrization that trains scores and freezes weights.

    Args:
        trained: names of parameters whose values are trained beside the scores of the others, such as biases. They are
            among what is trained, and among the result, under their own names.
    """

    def apart(tree: Tree) -> tuple[Tree, Tree]:
        values = {name: tree[name] for name in trained}
        return {name: array for name, array in tree.items() if name not in values}, values

    def masked(scores: Tree, weights: Tree) -> Tree:
        return {name: weights[name] for name in scores}

    def product(weights: Tree, mask: Tree, **more: Any) -> Tree:
        return weights | method.effective(masked(mask, weights), mask, **more)

    def effective(trainable: Tree, state: Any, weights: Tree, key: Array, clock: Clock) -> tuple[Tree, Array]:
        progress, (scores, values) = clock.progress, apart(trainable)
        more = {"key": key, "progress": progress} | asked(method.mask, state=state)
        mask = method.mask(scores, masked(scores, weights), **more)
        penalty = method.penalty(scores, progress=progress, **asked(method.penalty, state=state))
        found = product(weights | values, mask, **asked(method.effective, state=state))
        return found, jnp.asarray(penalty, jnp.float32)

    def after_update(
        trainable: Tree, state: Any, before: Tree, weights: Tree, key: Array, clock: Clock, loss: Array
    ) -> tuple[Tree, Any]:
        (scores, values), (earlier, _) = apart(trainable), apart(before)
        more = {"key": key, "clock": clock} | asked(method.after_update, loss=loss)
        scores, state = method.after_update(scores, state, earlier, masked(scores, weights), **more)
        return scores | values, state

    def result(trainable: Tree, state: Any, weights: Tree) -> Tree:
        scores, values = apart(trainable)
        return method.harden(scores, masked(scores, weights), **asked(method.harden, state=state)) | values

    def result_weights(found: Tree, weights: Tree, key: Array) -> Tree:
        mask, values = apart(found)
        return product(weights | values, masks.realise(mask, key))

    def numbers(shapes: Shapes) -> tuple[Any, Callable[[Any], Parametrization]]:
        found, given = method.numbers(shapes)
        return found, lambda numbers: mask_search(given(numbers), trained)

    return Parametrization(
        weights=effective,
        result=result,
        result_weights=result_weights,
        density=lambda found, weights: masks.kept_fraction(apart(found)[0]),
        after_update=after_update,
        resets_optimizer=method.resets_optimizer,
        numbers=numbers,
    )


def _masked_weights(weights: Tree, mask: Tree) -> Tree:
    return weights | {name: weights[name] * mask[name] for name in mask}


weight_training = Parametrization(
    weights=lambda weights, state, mask, key, clock: (_masked_weights(weights, mask), jnp.float32(0)),
    result=lambda weights, state, mask: weights,
    result_weights=lambda weights, mask, key: _masked_weights(weights, mask),
    density=lambda weights, mask: masks.kept_fraction(mask) if mask else jnp.float32(1),
)
"""The parametrization that trains weights and freezes a mask; an empty mask, {}, means dense training."""


@dataclass(frozen=True)
class Step:
    """One training step, for any parametrization, network and task.

    Attributes:
        batching: a batch goes through the network in batching[0] pieces, each piece in batching[1] smaller ones, and
            so on; see `gradient`.
        axis: mesh axis that the batch is spread over inside `jax.shard_map`, or None; sums are taken over this axis.
        learning_rate: given to the optimiser in place of its own; only those of `make_optimizer` look at it.
        moving: names of the model state that each piece moves by itself, from the same values; their mean counts.
    """

    parametrization: Parametrization
    model: Model
    task: Task
    optimizer: optax.GradientTransformation
    batching: tuple[int, ...] = ()
    axis: str | None = None
    learning_rate: Array | None = None
    moving: Collection[str] = frozenset()

    def __call__(
        self, state: TrainState, frozen: Tree, batch: tuple[Array, Array], *, key: Array, clock: Clock
    ) -> tuple[TrainState, Sums]:
        """Return the state after the step, and the sums over the batch (inputs, targets).

        The mask is computed once, whatever the number of pieces: the gradient is first summed with respect to the
        effective weights, then pulled back to the trainable arrays.
        """
        rule, before = self.parametrization, state.trainable
        (weights, _), pull_back = jax.vjp(
            lambda trainable: rule.weights(trainable, state.method_state, frozen, key, clock), before
        )
        (sums, model_state), slope = self.gradient(weights, state.model_state, batch, jax.random.fold_in(key, 2))
        if self.axis is not None:
            sums, slope = summed((sums, slope), self.axis)
            model_state = averaged(model_state, self.moving, self.axis)
        # A product: a division by a traced number is compiled in two ways, which round differently with what follows.
        scale = 1 / jnp.maximum(sums.count, 1).astype(jnp.float32)
        mean_slope = jax.tree.map(lambda g: g * scale.astype(g.dtype), slope)
        (slope,) = pull_back((mean_slope, jnp.float32(1)))
        more = {} if self.learning_rate is None else {"learning_rate": self.learning_rate}
        updates, moments = optax.with_extra_args_support(self.optimizer).update(slope, state.optimizer, before, **more)
        moved = optax.apply_updates(before, updates)
        other_key = jax.random.fold_in(key, 1)
        trainable, method_state = rule.after_update(
            moved, state.method_state, before, frozen, other_key, clock, sums.loss * scale
        )
        anew = rule.resets_optimizer(clock)
        if anew is not False:
            moments = lax.cond(anew, lambda: _reset(self.optimizer, moments, trainable), lambda: moments)
        return TrainState(trainable, moments, model_state, method_state), sums

    def gradient(
        self, weights: Tree, model_state: Tree, batch: tuple[Array, Array], key: Array
    ) -> tuple[tuple[Sums, Tree], Tree]:
        """Return ((sums, model state), gradient of the summed loss) of a batch, added up over its pieces.

        Pieces are small so that they stay in a CPU's cache. Networks with statistics of the whole batch are cut
        inside of `apply` instead, see `nn.microbatches`. Each piece has its own key, which depends on its place in the
        batch and not on the device.
        """
        if self.axis is not None:
            key = jax.random.fold_in(key, lax.axis_index(self.axis))
        return self._microbatched(weights, model_state, batch, key, self.batching)

    def _microbatched(
        self, weights: Tree, model_state: Tree, batch: tuple[Array, Array], key: Array, batching: tuple[int, ...]
    ) -> tuple[tuple[Sums, Tree], Tree]:
        if not batching:
            return jax.grad(self._loss, has_aux=True)(weights, model_state, batch, key)[::-1]
        count, finer = batching[0], batching[1:]
        if count == 1:
            return self._microbatched(weights, model_state, batch, key, finer)

        def add(total: Any, piece: tuple[Array, tuple[Array, Array]]) -> tuple[Any, None]:
            number, part = piece
            found = self._microbatched(weights, model_state, part, jax.random.fold_in(key, number), finer)
            ((sums, moved), slope), ((more, state), steeper) = total, found
            state |= {name: moved[name] + state[name] / count for name in self.moving}
            return ((jax.tree.map(jnp.add, sums, more), state), jax.tree.map(jnp.add, slope, steeper)), None

        zero = Sums(jnp.float32(0), jnp.int32(0), jnp.int32(0))
        none = model_state | {name: jnp.zeros_like(model_state[name]) for name in self.moving}
        start = ((zero, none), jax.tree.map(jnp.zeros_like, weights))
        split = jax.tree.map(lambda a: a.reshape(count, -1, *a.shape[1:]), batch)
        return lax.scan(add, start, (jnp.arange(count), split))[0]

    def _loss(
        self, weights: Tree, model_state: Tree, batch: tuple[Array, Array], key: Array
    ) -> tuple[Array, tuple[Sums, Tree]]:
        inputs, targets = batch
        outputs, after = self.model.apply(weights, model_state, inputs, train=True, key=key)
        sums = self.task.loss(outputs, targets)
        return sums.loss, (sums, after)


def _reset(optimizer: optax.GradientTransformation, moments: Any, trainable: Tree) -> Any:
    """Reset the optimiser's state, except for the step count that the learning rate depends on."""
    fresh = optimizer.init(trainable)
    keep = optax.ScaleByScheduleState
    return jax.tree.map(
        lambda old, new: old if isinstance(old, keep) else new,
        moments,
        fresh,
        is_leaf=lambda leaf: isinstance(leaf, keep),
    )
