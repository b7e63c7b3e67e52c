"""Sanity checks of a ticket: what is left of it when its mask or its weights are exchanged.

Sreenivasan et al. 2022, arXiv 2202.12002, section 4; Su et al. 2020, arXiv 2009.11094; Frankle et al. 2021, arXiv
2009.08576. A mask that says more than how dense each layer is loses by all of them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from supermask.ticket import Ticket
from supermask.types import Tree
from supermask.weights import inits
from supermask.weights.shapes import fingerprint


def control(ticket: Ticket, kind: str) -> Ticket:
    """The ticket with one thing exchanged; the same for the same ticket. Densities stay as they are, see below.

    shuffled: the mask's values lie elsewhere within their layer.
    redrawn: the frozen weights are of another seed.
    inverted: within each layer the ranks are turned round: the highest values go to the weights that had the lowest,
        ties in random order. The scores are not in a ticket, so of a sparse binary mask any of the removed weights may
        be chosen.
    random: the mask's values lie elsewhere within the whole net, so that layers lose their own densities.

    Args:
        kind: shuffled, redrawn, inverted or random.
    """
    stream = np.random.Philox(key=ticket.config.seed)
    if kind == "redrawn":
        config = ticket.config.replace(seed=(ticket.config.seed + 2**31) % 2**32)
        moved = replace(ticket, config=config, embedded=None)
        return replace(moved, fingerprint=fingerprint(inits.of_config(config, config.seed, ticket.shapes)))
    if kind == "shuffled":
        return replace(ticket, mask={name: _shuffled(stream, array) for name, array in ticket.mask.items()})
    if kind == "inverted":
        return replace(ticket, mask={name: _inverted(stream, array) for name, array in ticket.mask.items()})
    return replace(ticket, mask=_random(stream, ticket.mask))


def _shuffled(stream: np.random.Philox, array: np.ndarray) -> np.ndarray:
    return array.ravel()[_order(stream, array.size)].reshape(array.shape)


def _inverted(stream: np.random.Philox, array: np.ndarray) -> np.ndarray:
    flat = array.ravel()
    random = _order(stream, flat.size)
    rising = random[np.argsort(flat[random], kind="stable")]
    out = np.empty_like(flat)
    out[rising] = flat[rising][::-1]
    return out.reshape(array.shape)


def _random(stream: np.random.Philox, mask: Tree) -> Tree:
    flat = np.concatenate([array.ravel() for array in mask.values()])
    parts = np.split(flat[_order(stream, flat.size)], np.cumsum([array.size for array in mask.values()])[:-1])
    return {name: part.reshape(array.shape) for (name, array), part in zip(mask.items(), parts, strict=True)}


def _order(stream: np.random.Philox, size: int) -> np.ndarray:
    return np.argsort(stream.random_raw(size), kind="stable")
