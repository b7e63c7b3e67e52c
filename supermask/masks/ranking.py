"""Pruning by rank: which weights a layer, or the network, keeps when its lowest scores go. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from supermask.errors import UsageError, require
from supermask.masks.allocation import in_order
from supermask.types import Tree
from supermask.weights.parameters import Parameters, masked_shapes
from supermask.weights.streams import stream

RANKINGS = ("local", "global")


def removed_count(alive: int, keep: float) -> int:
    """How many of `alive` weights go when a fraction `keep` stays: the published rule, rounded down, floats and all.

    Zhou et al. 2019 hold the rate as a percentage that is computed in floats. For keep = 0.8 that is
    (1 - 0.8) * 100 = 19.999999999999996, so of 235,200 weights 47,039 go and not 47,040. Their numbers of weights come
    out only if the same is done here.
    """
    return math.floor(alive * ((1 - keep) * 100) / 100)


def prune(scores: Tree, mask: Tree, keep: Mapping[str, float], ranking: str = "local", key: str = "") -> Tree:
    """Return the mask without the weights of the lowest scores; what is pruned stays pruned.

    local (Zhou et al. 2019): in each layer, `removed_count` weights go; ties are broken at random.
    global (open_lth): the weights of all layers are ranked together. Of n weights, those stay whose score is strictly
        above element ceil((1 - keep) * n) of the sorted scores, counted from 0: one weight fewer than the fraction
        says, and none of those tied with that element. A layer that keeps 1 is left alone.

    Args:
        scores: of each layer; higher is kept.
        mask: bool, of each layer in `scores`: what is alive.
        keep: fraction of the alive weights to keep, by layer, above 0 and at most 1.
        ranking: a name in RANKINGS.
        key: names the random stream of ties, together with the layer, such as f"{seed}/{round}".

    Raises:
        UsageError: unknown ranking; a fraction is out of range; under global ranking, layers with different fractions,
            or no weight is left.
    """
    require("ranking", ranking, RANKINGS)
    for name in scores:
        if not 0 < keep[name] <= 1:
            raise UsageError(f"the fraction of {name} to keep is {keep[name]:g}; it must be above 0 and at most 1")
    if ranking == "global":
        return _over_layers(scores, mask, keep)
    kept = {}
    for name, alive in mask.items():
        order = removal_order(scores[name], alive, f"{key}/{name}")
        kept[name] = without(alive, order[: removed_count(len(order), keep[name])])
    return kept


def removal_order(scores: np.ndarray, alive: np.ndarray, key: str) -> np.ndarray:
    """Flat places of the alive weights of a layer, lowest score first, ties in random order; the same for one `key`."""
    places = np.flatnonzero(alive)
    order: np.ndarray = places[np.lexsort((stream(key).random_raw(len(places)), scores.ravel()[places]))]
    return order


def without(alive: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The mask of a layer without the weights at these flat places."""
    kept = alive.flatten()
    kept[places] = False
    return kept.reshape(alive.shape)


def _over_layers(scores: Tree, mask: Tree, keep: Mapping[str, float]) -> Tree:
    ranked = [name for name in mask if keep[name] != 1]
    fractions = sorted({keep[name] for name in ranked})
    if not ranked:
        return dict(mask)
    if len(fractions) > 1:
        raise UsageError(
            "global ranking has one fraction to keep for all layers that it prunes, not "
            f"{', '.join(f'{value:g}' for value in fractions)}; a layer that keeps 1 is left alone"
        )
    pooled = np.sort(np.concatenate([scores[name][mask[name]] for name in ranked]))
    # Rounded, for 1 - 0.8 is not 0.2 in floats.
    number = math.ceil(round(1 - fractions[0], 12) * len(pooled))
    threshold = pooled[min(number, len(pooled) - 1)]
    kept = {name: mask[name] & (scores[name] > threshold) if name in ranked else mask[name] for name in mask}
    if not any(kept[name].any() for name in ranked):
        raise UsageError(
            f"keeping {fractions[0]:g} of {len(pooled):,} weights by global ranking keeps none, for no score is "
            "strictly above the threshold: keep more, or rank locally"
        )
    return kept


def head_of(parameters: Parameters) -> str:
    """Name of the masked kernel that makes the outputs: the one whose outputs no other kernel takes as its inputs.

    Names and their order do not tell (`fc` comes before `layer1`). If several kernels are like that, as the projection
    to queries, keys and values is, it is the last of them by name. A convolution is taken only where there is no other.
    """
    shapes = masked_shapes(parameters)
    kernels = [name for name in in_order(shapes) if parameters[name].role == "kernel"] or in_order(shapes)
    dense = [name for name in kernels if not _is_conv(parameters, name)] or kernels
    taken = {name: {_inputs(parameters, other) for other in kernels if other != name} for name in dense}
    ends = [name for name in dense if shapes[name][-1] not in taken[name]]
    return (ends or dense)[-1]


def keep_fractions(parameters: Parameters, conv: float, dense: float, head: float) -> dict[str, float]:
    """The fraction that each masked parameter keeps in a round, by the kind of its layer.

    Args:
        conv: of convolutions.
        dense: of everything else.
        head: of the kernel that makes the outputs, see `head_of`.
    """
    last = head_of(parameters)
    return {
        name: head if name == last else conv if _is_conv(parameters, name) else dense
        for name in masked_shapes(parameters)
    }


def _is_conv(parameters: Parameters, name: str) -> bool:
    found = parameters[name]
    return found.layer.startswith("Conv") or len(found.shape) == 4


def _inputs(parameters: Parameters, name: str) -> int:
    shape = parameters[name].shape
    return shape[-2] if len(shape) > 1 else 0
