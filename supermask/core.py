"""The idea: mask times frozen weights, the network applied to the product, the gradient taken for the scores alone.

A step is written over what is trained and what is frozen. `mask_search` trains scores over frozen weights;
`weight_training` exchanges the roles and trains weights under a frozen mask. No method, arch or dataset is named here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from supermask import masks
from supermask.types import Array, Clock, Method, Model, Sums, Task, Tree


class TrainState(NamedTuple):
    """What moves from step to step.

    Attributes:
        trainable: what the optimiser moves: scores, or weights.
        optimizer: its moments.
        model_state: batch statistics and the like.
        method_state: what a method carries beside its scores, see `Method.init_state`.
    """

    trainable: Tree
    optimizer: Any
    model_state: Tree
    method_state: Any


@dataclass(frozen=True)
class Parametrization:
    """How what is trained becomes effective weights, and what happens after each update.

    Attributes:
        weights: (trainable, method_state, frozen, key, clock) -> (effective weights, penalty).
        result: (trainable, method_state, frozen) -> what is kept: the hardened mask, or the weights.
        result_weights: (result, frozen, key) -> the effective weights of a result, float32.
        density: (result, frozen) -> fraction of maskable weights kept.
        after_update: (trainable, method_state, trainable before, frozen, key, clock) -> (trainable, method_state).
        resets_optimizer: (clock) -> whether the optimiser's moments start anew.
    """

    weights: Callable[[Tree, Any, Tree, Array, Clock], tuple[Tree, Array]]
    result: Callable[[Tree, Any, Tree], Tree]
    result_weights: Callable[[Tree, Tree, Array], Tree]
    density: Callable[[Tree, Tree], Array]
    after_update: Callable[[Tree, Any, Tree, Tree, Array, Clock], tuple[Tree, Any]] = (
        lambda trainable, method_state, before, frozen, key, clock: (trainable, method_state)
    )
    resets_optimizer: Callable[[Clock], Array | bool] = lambda clock: False


def mask_search(method: Method) -> Parametrization:
    """Scores are trained, weights are frozen."""

    def masked(scores: Tree, weights: Tree) -> Tree:
        return {name: weights[name] for name in scores}

    def stated(function: Callable[..., Tree], state: Any) -> dict[str, Any]:
        return {"state": state} if "state" in inspect.signature(function).parameters else {}

    def product(weights: Tree, mask: Tree, **more: Any) -> Tree:
        return weights | method.effective(masked(mask, weights), mask, **more)

    def effective(scores: Tree, state: Any, weights: Tree, key: Array, clock: Clock) -> tuple[Tree, Array]:
        progress = clock.progress
        mask = method.mask(scores, masked(scores, weights), key=key, progress=progress, **stated(method.mask, state))
        penalty = jnp.asarray(method.penalty(scores, progress=progress), jnp.float32)
        return product(weights, mask, **stated(method.effective, state)), penalty

    def after_update(
        scores: Tree, state: Any, before: Tree, weights: Tree, key: Array, clock: Clock
    ) -> tuple[Tree, Any]:
        return method.after_update(scores, state, before, masked(scores, weights), key=key, clock=clock)

    return Parametrization(
        weights=effective,
        result=lambda scores, state, weights: method.harden(
            scores, masked(scores, weights), **stated(method.harden, state)
        ),
        result_weights=lambda mask, weights, key: product(weights, realise(mask, key)),
        density=lambda mask, weights: _density(mask),
        after_update=after_update,
        resets_optimizer=method.resets_optimizer,
    )


def _masked_weights(weights: Tree, mask: Tree) -> Tree:
    return weights | {name: weights[name] * mask[name] for name in mask}


weight_training = Parametrization(
    weights=lambda weights, state, mask, key, clock: (_masked_weights(weights, mask), jnp.float32(0)),
    result=lambda weights, state, mask: weights,
    result_weights=lambda weights, mask, key: _masked_weights(weights, mask),
    density=lambda weights, mask: _density(mask) if mask else jnp.float32(1),
)
"""Weights are trained, a mask (possibly {}: dense) is frozen."""


def realise(mask: Tree, key: Array) -> Tree:
    """A hardened mask as float32 factors: sampled masks (uint8, 255ths) are drawn, all others only cast."""
    return {
        name: (masks.draw_255(masks.key_for(key, name), m) if m.dtype == jnp.uint8 else m).astype(jnp.float32)
        for name, m in mask.items()
    }


def _density(mask: Tree) -> Array:
    kept = jnp.float32(0)
    for array in mask.values():
        expected = array.astype(jnp.float32) / 255 if array.dtype == jnp.uint8 else (array != 0).astype(jnp.float32)
        kept += jnp.sum(expected)
    return kept / sum(array.size for array in mask.values())


@dataclass(frozen=True)
class Step:
    """One step of training, for any parametrization, network and task.

    Attributes:
        cuts: a batch goes through the network in cuts[0] pieces, each of them in cuts[1], and so on; see `gradient`.
        axis: mesh axis that the batch is spread over inside `jax.shard_map`, or None; sums are taken over it.
    """

    parametrization: Parametrization
    model: Model
    task: Task
    optimizer: optax.GradientTransformation
    cuts: tuple[int, ...] = ()
    axis: str | None = None

    def __call__(
        self, state: TrainState, frozen: Tree, batch: tuple[Array, Array], *, key: Array, clock: Clock
    ) -> tuple[TrainState, Sums]:
        """The state after the step, and the sums over its batch (inputs, targets).

        The mask is made once, whatever the number of pieces: the gradient is first gathered with respect to the
        effective weights, then pulled back to what is trained.
        """
        rule, before = self.parametrization, state.trainable
        (weights, _), pull_back = jax.vjp(
            lambda trainable: rule.weights(trainable, state.method_state, frozen, key, clock), before
        )
        (sums, model_state), slope = self.gradient(weights, state.model_state, batch, jax.random.fold_in(key, 2))
        if self.axis is not None:
            sums, slope = lax.psum((sums, slope), self.axis)
        mean_slope = jax.tree.map(lambda g: g / sums.count.astype(g.dtype), slope)
        (slope,) = pull_back((mean_slope, jnp.float32(1)))
        updates, moments = self.optimizer.update(slope, state.optimizer, before)
        moved = optax.apply_updates(before, updates)
        other_key = jax.random.fold_in(key, 1)
        trainable, method_state = rule.after_update(moved, state.method_state, before, frozen, other_key, clock)
        anew = rule.resets_optimizer(clock)
        if anew is not False:
            moments = lax.cond(anew, lambda: _reset(self.optimizer, moments, trainable), lambda: moments)
        return TrainState(trainable, moments, model_state, method_state), sums

    def gradient(
        self, weights: Tree, model_state: Tree, batch: tuple[Array, Array], key: Array
    ) -> tuple[tuple[Sums, Tree], Tree]:
        """((sums, model state), gradient of the summed loss) of a batch, gathered over its pieces.

        Exact for networks without batch statistics; on a CPU a small piece stays in the cache. Each piece has a key
        of its own, which says where it lies in the batch and not on which device.
        """
        if self.axis is not None:
            key = jax.random.fold_in(key, lax.axis_index(self.axis))
        return self._pieces(weights, model_state, batch, key, self.cuts)

    def _pieces(
        self, weights: Tree, model_state: Tree, batch: tuple[Array, Array], key: Array, cuts: tuple[int, ...]
    ) -> tuple[tuple[Sums, Tree], Tree]:
        if not cuts:
            return jax.grad(self._loss, has_aux=True)(weights, model_state, batch, key)[::-1]
        count, finer = cuts[0], cuts[1:]
        if count == 1:
            return self._pieces(weights, model_state, batch, key, finer)

        def add(total: Any, piece: tuple[Array, tuple[Array, Array]]) -> tuple[Any, None]:
            number, part = piece
            found = self._pieces(weights, model_state, part, jax.random.fold_in(key, number), finer)
            return jax.tree.map(jnp.add, total, found), None

        zero = Sums(jnp.float32(0), jnp.int32(0), jnp.int32(0))
        start = ((zero, model_state), jax.tree.map(jnp.zeros_like, weights))
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
    """The optimiser's state as at the start, but for its count of steps, which the learning rate follows."""
    fresh = optimizer.init(trainable)
    keep = optax.ScaleByScheduleState
    return jax.tree.map(
        lambda old, new: old if isinstance(old, keep) else new,
        moments,
        fresh,
        is_leaf=lambda leaf: isinstance(leaf, keep),
    )
