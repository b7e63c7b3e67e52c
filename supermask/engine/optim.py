"""Makes the optimiser and the learning-rate schedule of a config."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from supermask.config import Config
from supermask.engine.sharding import to_host
from supermask.errors import UsageError
from supermask.types import Array


def make_optimizer(
    config: Config, steps_per_epoch: int, turns: tuple[int, int] = (1, 1)
) -> optax.GradientTransformationExtraArgs:
    """Return SGD with momentum (plain or Nesterov's), Adam or AdamW.

    Weight decay is L2 in the gradient, as in PyTorch; AdamW instead subtracts learning rate x decay x value in each
    step (Loshchilov & Hutter 2019). A gradient whose norm over all arrays is above `clip` is scaled down to it first;
    then that of each array to `clip_each`.

    The learning rate changes once per epoch, as in the published code. In epoch e of E, counted from 0, the cosine
    schedule multiplies it by (1 + cos(pi e / E)) / 2, so the last epoch still learns; the staircase schedule multiplies
    it by 0.9 after each tenth of the epochs (Koster et al. 2022: every ten epochs of a hundred), multistep by 0.1 after
    one half and after three quarters of them (He et al. 2016). With `cycles`, E is the length of one of them, and e
    starts anew with each. The step-staircase counts steps, not epochs: x 0.96 after every 3,900 (Koster et al. 2022,
    their code of December 2020). Beyond the last epoch its learning rate stays. Over the first `warmup` epochs it is
    multiplied by (step + 1) / steps as well (Goyal et al. 2017).

    Its `update` takes a keyword argument `learning_rate` in place of the config's, for it may be traced: trainings that
    differ in it alone then share a compiled program.

    Args:
        turns: see `Method.turns`; each of those that take turns has moments of its own.

    Raises:
        UsageError: the schedule cannot run through `cycles` times.
    """
    momentum, decay = float(config.momentum or 0), optax.add_decayed_weights(float(config.weight_decay or 0))
    inner = {
        "sgd": lambda: (decay, optax.trace(momentum)),
        "nesterov": lambda: (decay, optax.trace(momentum, nesterov=True)),
        "adam": lambda: (decay, optax.scale_by_adam(b1=momentum)),
        "adamw": lambda: (optax.scale_by_adam(b1=momentum), decay),
    }[str(config.optimizer)]()
    clip = () if config.clip is None else (optax.clip_by_global_norm(config.clip),)
    if config.clip_each is not None:
        clip += (optax.stateless(partial(_clip_each, config.clip_each)),)
    moments = inner if turns[0] == 1 else (_in_turns(optax.chain(*inner), *turns),)
    return optax.chain(*clip, *moments, _descent(config, steps_per_epoch))


def _in_turns(inner: optax.GradientTransformation, count: int, steps: int) -> optax.GradientTransformation:
    """Return `count` optimisers of which each works for `steps` steps, then the next one; all keep their moments."""

    def init(values: Any) -> Any:
        states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *jnp.shape(leaf))), inner.init(values))
        return jnp.int32(0), states

    def update(slopes: Any, state: Any, values: Any = None) -> Any:
        step, states = state
        turn = step // steps % count
        own = jax.tree.map(lambda leaf: leaf[turn], states)
        updates, own = inner.update(slopes, own, values)
        states = jax.tree.map(lambda leaf, new: leaf.at[turn].set(new), states, own)
        return updates, (step + 1, states)

    return optax.GradientTransformation(init, update)


def _clip_each(limit: float, slopes: Any, _: Any) -> Any:
    def clipped(slope: Array) -> Array:
        return slope * (limit / jnp.maximum(jnp.sqrt(jnp.sum(slope**2)), limit))

    return jax.tree.map(clipped, slopes)


def _descent(config: Config, steps_per_epoch: int) -> optax.GradientTransformationExtraArgs:
    """Multiply by the learning rate, downhill."""
    own, scheduled = float(config.learning_rate or 0), _schedule(config, steps_per_epoch)

    def init(values: Any) -> Any:
        return optax.ScaleByScheduleState(jnp.int32(0)) if scheduled else optax.EmptyState()

    def update(slopes: Any, state: Any, values: Any = None, *, learning_rate: Any = None, **_: Any) -> Any:
        rate = own if learning_rate is None else learning_rate
        if scheduled:
            rate = scheduled(rate, state.count)
            state = optax.ScaleByScheduleState(optax.safe_increment(state.count))
        return jax.tree.map(lambda slope: -jnp.asarray(rate, slope.dtype) * slope, slopes), state

    return optax.GradientTransformationExtraArgs(init, update)


def _schedule(config: Config, steps_per_epoch: int) -> Callable[[Any, Array], Any] | None:
    """The function (learning rate at the start, step) -> learning rate; None if it never changes."""
    epochs = max(1, int(config.epochs or 0))
    cycles = config.cycles or 1
    length = -(-epochs // cycles)
    if cycles > 1 and config.schedule in ("constant", "step-staircase"):
        raise UsageError(f"cycles is {cycles}, and schedule {config.schedule} has none: leave --cycles out")
    if cycles > epochs:
        raise UsageError(f"cycles is {cycles}; it must be at most the number of epochs, {epochs}")
    of_epoch: dict[str, Callable[[Array], Any]] = {
        "constant": lambda epoch: 1,
        "cosine": optax.cosine_decay_schedule(1.0, length),
        "staircase": lambda epoch: jnp.float32(0.9) ** (10 * epoch // length),
        "step-staircase": lambda epoch: 1,
        "multistep": lambda epoch: jnp.float32(0.1) ** jnp.clip(4 * epoch // length - 1, 0, 2),
    }
    by_epoch, rising = of_epoch[str(config.schedule)], round((config.warmup or 0) * steps_per_epoch)
    if config.schedule == "constant" and not rising:
        return None

    def by_step(rate: Any, step: Array) -> Any:
        epoch = jnp.minimum(step // steps_per_epoch, epochs - 1)
        if cycles > 1:
            epoch -= -(-(epoch * cycles // epochs) * epochs // cycles)  # the first epoch of its cycle
        found = rate * by_epoch(epoch)
        if config.schedule == "step-staircase":
            found = rate * jnp.float32(0.96) ** (step // 3900)
        return found * jnp.minimum(1, (step + 1) / rising) if rising else found

    return by_step


def advanced(state: Any, step: int) -> Any:
    """Return an optimiser's state with its learning rate at this step of the schedule; moments stay as they are."""
    counts = optax.ScaleByScheduleState
    return jax.tree.map(
        lambda leaf: counts(np.full(leaf.count.shape, step, np.int32)) if isinstance(leaf, counts) else leaf,
        to_host(state),
        is_leaf=lambda leaf: isinstance(leaf, counts),
    )
