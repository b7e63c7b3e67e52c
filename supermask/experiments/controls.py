"""Sanity checks of a ticket: replace its mask or its weights and see how much accuracy is left.

Sreenivasan et al. 2022, arXiv 2202.12002, section 4; Su et al. 2020, arXiv 2009.11094; Frankle et al. 2021, arXiv
2009.08576. A mask that holds more information than the densities of its layers loses accuracy under each of them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from supermask.errors import UsageError
from supermask.ticket import Ticket
from supermask.types import Tree
from supermask.weights import inits
from supermask.weights.shapes import fingerprint
from supermask.weights.streams import permutation, permuted


def control(ticket: Ticket, kind: str) -> Ticket:
    """Return the ticket with its mask or its weights replaced; the same ticket always gives the same result.

    shuffled: shuffle the mask's values within each layer.
    redrawn: draw the frozen weights from another seed.
    inverted: reverse the ranks of the mask's values within each layer: the weights with the lowest values get the
        highest, ties in random order. A ticket holds no scores, so with a sparse binary mask the weights that are kept
        instead are chosen at random from the removed ones.
    random: shuffle the mask's values over the whole network, so layers do not keep their own densities. The other kinds
        keep them.

    Args:
        ticket: the ticket to change.
        kind: shuffled, redrawn, inverted or random.

    Raises:
        UsageError: weights that were given are to be redrawn.
    """
    stream = np.random.Philox(key=ticket.config.seed)
    if kind == "redrawn":
        if ticket.config.weights:
            raise UsageError(
                f"the weights of the ticket are those of {ticket.config.weights}, so there is no distribution to "
                "redraw them from: take shuffled, inverted or random"
            )
        config = ticket.config.replace(seed=(ticket.config.seed + 2**31) % 2**32)
        moved = replace(ticket, config=config, embedded=None)
        weights = inits.of_config(config, config.seed, ticket.parameters, ticket.own)
        return replace(moved, fingerprint=fingerprint(weights))
    if kind == "shuffled":
        return replace(ticket, mask={name: permuted(array, stream) for name, array in ticket.mask.items()})
    if kind == "inverted":
        return replace(ticket, mask={name: _inverted(stream, array) for name, array in ticket.mask.items()})
    return replace(ticket, mask=_random(stream, ticket.mask))


def _inverted(stream: np.random.Philox, array: np.ndarray) -> np.ndarray:
    flat = array.ravel()
    random = permutation(flat.size, stream)
    rising = random[np.argsort(flat[random], kind="stable")]
    out = np.empty_like(flat)
    out[rising] = flat[rising][::-1]
    return out.reshape(array.shape)


def _random(stream: np.random.Philox, mask: Tree) -> Tree:
    flat = np.concatenate([array.ravel() for array in mask.values()])
    parts = np.split(flat[permutation(flat.size, stream)], np.cumsum([array.size for array in mask.values()])[:-1])
    return {name: part.reshape(array.shape) for (name, array), part in zip(mask.items(), parts, strict=True)}
