"""The training steps of an epoch, as one program to compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from supermask.core import Parametrization, Step, TrainState
from supermask.data.feed import Feed
from supermask.engine.problem import Problem
from supermask.engine.sharding import Sharding
from supermask.types import Array, Clock, Sums

Carry = tuple[TrainState, Sums, Array]
"""The state, the sums over the epoch so far, and the first step with a loss that is not finite, or -1 (int32)."""


def training_program(
    problem: Problem, parametrization: Callable[[Any], Parametrization], feed: Feed, sharding: Sharding
) -> Callable[..., Carry]:
    """Return a function (carry, (frozen, key, chunk), (chunk, start, stop, numbers)) -> the carry after start..stop-1.

    It runs all seeds that lie side by side: the first two arguments have a leading axis of seeds, see
    `Sharding.program`. The chunk's arrays come in two parts, see `data.feed.Chunk`; all steps must be in this chunk.
    Start and stop are traced (int32 scalars), so one compilation serves pieces of an epoch of any length; so are the
    numbers, (learning rate, arguments of the parametrization), and trainings that differ in them share it. The sums go
    in and out, so the way an epoch is cut does not change the result, not even by rounding.
    """
    steps, (num_microbatches, in_stages) = problem.pipeline.steps_per_epoch, problem.batching
    model, task, moving = problem.training_model(sharding), problem.training_task, problem.moving
    batching = sharding.sequential_shards, 1 if in_stages else num_microbatches

    def run(carry: Carry, per_seed: Any, shared: Any) -> Carry:
        frozen, key, own = per_seed
        common, start, stop, (learning_rate, numbers) = shared
        rule = parametrization(numbers)
        step = Step(rule, model, task, problem.optimizer, batching, sharding.axis, learning_rate, moving)

        def one(i: Array, carry: Carry) -> Carry:
            state, total, failed = carry
            step_key, data_key = jax.random.split(jax.random.fold_in(key, i))
            batch = feed.take(own, common, i, data_key, sharding.local_shard)
            clock = Clock(i, steps, problem.total_steps)
            state, sums = step(state, frozen, batch, key=step_key, clock=clock)
            failed = jnp.where((failed < 0) & ~jnp.isfinite(sums.loss), i, failed)
            return state, jax.tree.map(jnp.add, total, sums), failed

        return lax.fori_loop(start, stop, one, carry)

    return sharding.program(run, own=2)
