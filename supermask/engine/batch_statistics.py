"""Batch statistics of a result, estimated anew from training batches.

While a mask moves, the running averages of its network follow it late: Flax keeps 99 % of them in each step. So those
that the training leaves behind belong to other weights than the ones that are scored and stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from supermask.core import Parametrization
from supermask.data.ahead import read
from supermask.engine.aot import Compiled
from supermask.engine.evaluator import seed_key
from supermask.engine.problem import Problem
from supermask.engine.sharding import Sharding, to_host
from supermask.masks.noise import key_for
from supermask.nn.sums import averaged
from supermask.types import Tree

BATCHES = 16
"""Number of training batches that the statistics are the mean of, or all batches if there are fewer."""

Apply = Callable[[int, Tree], Tree]
"""(number of a batch, state) -> the state after this batch, on the host."""


class BatchStatistics:
    """Estimates the statistics of results of seeds side by side; nothing is compiled for a network that keeps none.

    The batches are made as in training, augmentation and dropout included, for that is what the layers after a norm
    were trained on. Which they are depends on the seed alone. A sampled mask is drawn anew for each batch, as it is in
    training and for each score, so its statistics are means over draws.
    """

    def __init__(self, problem: Problem, parametrization: Parametrization, sharding: Sharding) -> None:
        self._problem, self._parametrization, self._sharding = problem, parametrization, problem.to_train(sharding)
        self._batches = min(BATCHES, len(problem.dataset.train) // problem.pipeline.batch_size)
        self.program = Compiled(self._sharding.program(self._after))

    def __call__(
        self,
        result: Any,
        model_state: Any,
        frozen: Any,
        seeds: Sequence[int],
        stop: Callable[[], bool] = lambda: False,
    ) -> Any:
        """Return the model state that belongs to the results, or None if `stop` says so between compiled calls.

        Args:
            result, model_state, frozen: trees of all seeds, as `Sharding.stack_seeds` returns them.
            seeds: one per entry of the trees.
        """
        if not self._problem.model.changes:
            return model_state
        fixed, orders = self._fixed(result, frozen, seeds), self._orders(seeds)

        def apply(number: int, state: Tree) -> Tree:
            if stop():
                raise _StoppedError
            after = self.program(*self._arguments(fixed, orders, self._sharding.place_seeds(state), number))
            return to_host(after)

        try:
            found = estimate(apply, to_host(model_state), self._batches)
        except _StoppedError:
            return None
        return self._sharding.place_seeds(found)

    def prepare(self, result: Any, model_state: Any, frozen: Any, seeds: Sequence[int]) -> None:
        """Compile for arguments like these, unless that is done already or there are none."""
        if self._problem.model.changes:
            fixed, orders = self._fixed(result, frozen, seeds), self._orders(seeds)
            self.program.prepare(*self._arguments(fixed, orders, model_state, 0))

    def _fixed(self, result: Any, frozen: Any, seeds: Sequence[int]) -> Any:
        keys = [key_for(seed_key(seed), "statistics") for seed in seeds]
        return result, frozen, self._sharding.stack_seeds(keys)

    def _orders(self, seeds: Sequence[int]) -> list[tuple[int, np.ndarray]]:
        """Each seed with a random order of the training examples, never the method's own: that may sort them."""
        count = len(self._problem.dataset.train)
        return [(seed, np.argsort(np.random.Philox(key=seed).random_raw(count), kind="stable")) for seed in seeds]

    def _arguments(self, fixed: Any, orders: list[tuple[int, np.ndarray]], state: Any, number: int) -> Any:
        size, images = self._problem.pipeline.batch_size, self._problem.dataset.train.inputs
        cut = slice(number * size, (number + 1) * size)
        batches = [read(images, order[cut], f"statistics {seed}") for seed, order in orders]
        return (*fixed, self._sharding.stack_seeds(batches), state), jnp.int32(number)

    def _after(self, per_seed: Any, number: Any) -> Tree:
        """Return the state after one training batch under the result; traced."""
        result, frozen, key, images, state = per_seed
        mask_key, noise_key, data_key = jax.random.split(jax.random.fold_in(key, number), 3)
        weights = self._parametrization.result_weights(result, frozen, mask_key)
        inputs = self._problem.pipeline.inputs(images, data_key, self._sharding.local_shard)
        model = self._problem.training_model(self._sharding)
        after = model.apply(weights, state, inputs, train=True, key=noise_key)[1]
        return averaged(after, self._problem.moving, self._sharding.axis)


class _StoppedError(Exception):
    """A callback stops the estimate."""


def estimate(apply: Apply, state: Tree, batches: int) -> Tree:
    """Return the state in which each running average is the plain mean over the batches, whatever its momentum.

    On a batch whose own value is b, a running average moves by (1 - m) (b - average). Each movement is stretched from
    1 - m to 1 / (number of batches so far). So the start drops out, all batches count the same, and once the average
    is near b, neither rounding nor an error in m matters much, as it would in dividing by 1 - m.

    State of other kinds is not averaged. What follows a rule of its own, such as the vector of a power iteration, goes
    on by that rule. Counters, totals, schedules, buffers and whole numbers stay as the training left them.

    Args:
        apply: see `Apply`.
        state: arrays with a leading axis of seeds.
        batches: number of batches, 1 or more.
    """
    with np.errstate(all="ignore"):  # what is not finite is no running average, and is returned as it is
        first = apply(0, state)
        momenta, following = _momenta(apply, state, first)
        if not momenta and not following:
            return state
        mean = {name: _own(state[name], first[name], m) for name, m in momenta.items()}
        now = state | _as_in(state, mean)
        for number in range(batches):
            after = apply(number, now)
            for name, m in momenta.items():
                mean[name] += (_own(now[name], after[name], m) - mean[name]) / (number + 1)
            now = now | {name: after[name] for name in following} | _as_in(state, mean)
    return now


def _own(before: np.ndarray, after: np.ndarray, momentum: np.ndarray) -> np.ndarray:
    """The value of a batch that moved a running average, float64."""
    return before + (after.astype(float) - before) / (1 - momentum)


def _as_in(state: Tree, values: Tree) -> Tree:
    return {name: value.astype(state[name].dtype) for name, value in values.items()}


def _momenta(apply: Apply, state: Tree, first: Tree) -> tuple[Tree, list[str]]:
    """Return (momentum of each entry of each running average, names of what follows a rule of its own).

    No module is asked: the first batch is applied again from other values. From those, a running average ends at other
    values, in proportion; the factor is its momentum.
    """
    moving = [
        name
        for name, array in state.items()
        if jnp.issubdtype(array.dtype, jnp.floating) and not np.array_equal(array, first[name])
    ]
    slopes = _slopes(apply, state, first, moving)
    for name in [name for name in moving if name not in slopes]:  # it may depend only on what was changed with it
        slopes |= _slopes(apply, state, first, [name])
    momenta = {}
    for name, slope in slopes.items():
        slack, before = _slack(state[name]), state[name]
        scheduled = before.ndim == 1 and (abs(first[name] - slope * before) <= slack * abs(before)).all()
        if (slope > -slack).all() and (slope < 1 - slack).all() and not scheduled:
            momenta[name] = np.maximum(slope, 0)
    return momenta, [name for name in moving if name not in slopes]


def _slopes(apply: Apply, state: Tree, first: Tree, names: list[str]) -> Tree:
    """Return the slopes of those of `names` whose every entry depends on itself in proportion, and on no other."""
    found = []
    for spread in (np.sqrt(2), np.sqrt(3)):  # two patterns without any relation
        other = {}
        for name in names:
            before = state[name]
            step = 1 + spread * np.arange(1, before[0].size + 1).reshape(before.shape[1:]) % 1
            other[name] = before + (1 + abs(before) + abs(first[name])) * step
        other = _as_in(state, other)
        after = apply(0, state | other)
        found.append({n: (after[n].astype(float) - first[n]) / (other[n].astype(float) - state[n]) for n in names})
    one, two = found
    return {n: (one[n] + two[n]) / 2 for n in names if (abs(one[n] - two[n]) <= _slack(state[n])).all()}


def _slack(array: np.ndarray) -> float:
    return 32 * float(jnp.finfo(array.dtype).eps)
