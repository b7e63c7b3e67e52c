"""What a search is given in place of random weights, and the mask that it stays within."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from supermask.archs._pure import state_of
from supermask.config import Config, SearchConfig
from supermask.config.files import hash_of
from supermask.engine.frozen import Frozen
from supermask.engine.lagrangian import controlled
from supermask.engine.within import within
from supermask.errors import BadFileError, UsageError
from supermask.methods._freezing import Freezing
from supermask.runs.given import Frame, Given, read_given
from supermask.ticket import Ticket
from supermask.types import Method, Model, Tree
from supermask.weights.parameters import masked_shapes


def start_of(
    config: Config, method: Method | None, model: Model, image_shape: tuple[int, ...]
) -> tuple[Given | None, Method | None]:
    """Return (the given weights of a resolved config, or None; what searches: the method,
    under control, or among weights that are not frozen, if it is to be, within a ticket if the config names one).

    Args:
        model: with the roles of its parameters.

    Raises:
        BadFileError: a file is missing, damaged, was replaced or does not fit the network.
        UsageError: a ticket, or what the seed freezes, leaves the method too few weights or too many.
    """
    if not isinstance(config, SearchConfig) or method is None:
        return None, None
    given = None if config.weights is None else _given_weights(config, model, image_shape)
    searcher = controlled(method)
    if isinstance(method, Freezing) and method.is_frozen:
        if config.within is not None:
            raise UsageError("the seed freezes some weights, and --within others: leave out one of them")
        return given, Frozen.of_seed(method, masked_shapes(dict(model.parameters)), config.seed)
    if config.within is None:
        return given, searcher
    return given, within(searcher, _inside(config, model.parameters, image_shape), Path(config.within).name)


def _given_weights(config: SearchConfig, model: Model, image_shape: tuple[int, ...]) -> Given:
    state = state_of(model).items()
    statistics = {name: tuple(array.shape) for name, array in state if jnp.issubdtype(array.dtype, jnp.floating)}
    return read_given(Frame(config, dict(model.parameters), tuple(image_shape), statistics))


def _inside(config: SearchConfig, parameters: Mapping[str, Any], image_shape: tuple[int, ...]) -> Tree:
    """Which weights the ticket keeps: those whose factor, or probability, is not 0."""
    ticket = Ticket.load(str(config.within))
    if hash_of(Path(str(config.within))) != config.within_sha256:
        raise BadFileError(f"{config.within} has been replaced since this call began: call again")
    shapes = masked_shapes(dict(parameters))
    if {name: mask.shape for name, mask in ticket.mask.items()} != shapes:
        raise BadFileError(
            f"{config.within} is of {ticket.config.arch} on inputs of {ticket.image_shape}, not of {config.arch} on "
            f"{tuple(image_shape)} with the same parameters masked: leave out what differs"
        )
    return {name: np.asarray(ticket.mask[name] != 0) for name in shapes}
