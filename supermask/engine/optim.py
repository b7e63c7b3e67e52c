"""Makes the optimiser and the learning-rate schedule of a config."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from supermask.config import Config
from supermask.types import Array


def make_optimizer(config: Config, steps_per_epoch: int) -> optax.GradientTransformation:
    """Return SGD with momentum (plain or Nesterov's) or Adam; weight decay is L2 in the gradient, as in PyTorch.

    The learning rate changes once per epoch, as in the published code. In epoch e of E, counted from 0, the cosine
    schedule multiplies it by (1 + cos(pi e / E)) / 2, so the last epoch still learns; the staircase schedule multiplies
    it by 0.9 after each tenth of the epochs (Koster et al. 2022: every ten epochs of a hundred), multistep by 0.1 after
    one half and after three quarters of them (He et al. 2016). Beyond the last epoch its learning rate stays.
    """
    rate, epochs = float(config.learning_rate or 0), max(1, int(config.epochs or 0))
    of_epoch: dict[str, Callable[[Array], Any]] = {
        "constant": lambda epoch: rate,
        "cosine": optax.cosine_decay_schedule(rate, epochs),
        "staircase": lambda epoch: rate * jnp.float32(0.9) ** (10 * epoch // epochs),
        "multistep": lambda epoch: rate * jnp.float32(0.1) ** jnp.clip(4 * epoch // epochs - 1, 0, 2),
    }
    by_epoch = of_epoch[str(config.schedule)]
    momentum = float(config.momentum or 0)
    inner = {
        "sgd": lambda: optax.trace(momentum),
        "nesterov": lambda: optax.trace(momentum, nesterov=True),
        "adam": lambda: optax.scale_by_adam(b1=momentum),
    }[str(config.optimizer)]()
    return optax.chain(
        optax.add_decayed_weights(float(config.weight_decay or 0)),
        inner,
        optax.scale_by_learning_rate(
            rate if config.schedule == "constant" else lambda s: by_epoch(jnp.minimum(s // steps_per_epoch, epochs - 1))
        ),
    )


def advanced(state: Any, step: int) -> Any:
    """Return an optimiser's state with its learning rate at this step of the schedule; moments stay as they are."""
    counts = optax.ScaleByScheduleState
    return jax.tree.map(
        lambda leaf: counts(np.full(leaf.count.shape, step, np.int32)) if isinstance(leaf, counts) else leaf,
        jax.device_get(state),
        is_leaf=lambda leaf: isinstance(leaf, counts),
    )
