"""What kept and pruned weights become before a network is trained again: the mask-1 and mask-0 actions.

Source: Zhou et al. 2019, arXiv 1905.01067, sections 3 and 4. `initial` are the weights that training is rewound to,
`final` the trained ones. Nothing here needs JAX, and the same seed and round give the same values on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from supermask.types import Tree
from supermask.weights.streams import permutation, permuted, stream


@dataclass(frozen=True)
class Layer:
    """One layer before it is trained again; arrays have its shape.

    Attributes:
        initial, final: float32.
        mask: bool, what is kept.
        stream: the random bits of this layer in this round.
    """

    initial: np.ndarray
    final: np.ndarray
    mask: np.ndarray
    stream: np.random.Philox

    def permuted(self, values: np.ndarray) -> np.ndarray:
        """A random permutation of all entries."""
        return permuted(values, self.stream)

    @property
    def constant(self) -> np.ndarray:
        """The sign of each initial weight times the standard deviation of all of them."""
        values = self.initial.astype(float).ravel()
        mean = math.fsum(values) / values.size
        return np.sign(self.initial) * np.float32(math.sqrt(math.fsum((values - mean) ** 2) / values.size))


def _reshuffled(layer: Layer) -> np.ndarray:
    found = layer.initial.copy()
    found[layer.mask] = layer.permuted(layer.initial[layer.mask])
    return found


def _signed(layer: Layer, values: np.ndarray) -> np.ndarray:
    return np.abs(values) * np.sign(layer.initial)


KEPT: dict[str, Callable[[Layer], np.ndarray]] = {
    "rewind": lambda layer: layer.initial,
    "random-reinit": lambda layer: layer.permuted(layer.initial),
    "signed-reinit": lambda layer: _signed(layer, layer.permuted(layer.initial)),
    "random-reshuffle": _reshuffled,
    "signed-reshuffle": lambda layer: _signed(layer, _reshuffled(layer)),
    "signed-constant": lambda layer: layer.constant,
    "random-signed-constant": lambda layer: layer.permuted(layer.constant),
}
"""Name of a mask-1 action -> the values from which kept weights are trained.

`random-reinit` permutes the initial weights of the whole layer, `random-reshuffle` only those that are kept; the signed
ones keep each weight's initial sign.
"""


def _toward_zero(layer: Layer) -> np.ndarray:
    return np.abs(layer.final) < np.abs(layer.initial)


def _zeroed(layer: Layer, zero: np.ndarray) -> np.ndarray:
    return np.where(zero, np.float32(0), layer.initial)


def _same_number(layer: Layer) -> np.ndarray:
    """As many pruned weights, chosen at random, as moved toward zero among them."""
    pruned = ~layer.mask
    count = int((pruned & _toward_zero(layer)).sum())
    rank = np.argsort(permutation(int(pruned.sum()), layer.stream))
    chosen = np.zeros_like(pruned)
    chosen[pruned] = rank < count
    return chosen


PRUNED: dict[str, Callable[[Layer], np.ndarray]] = {
    "zero": lambda layer: np.zeros_like(layer.initial),
    "freeze-init": lambda layer: layer.initial,
    "freeze-init-zero-mask": lambda layer: _zeroed(layer, _toward_zero(layer)),
    "freeze-init-zero-all": lambda layer: _zeroed(layer, _toward_zero(layer)),
    "freeze-init-zero-reshuffle": lambda layer: _zeroed(layer, _same_number(layer)),
    "freeze-init-zero-reverse": lambda layer: _zeroed(layer, ~_toward_zero(layer)),
    "zero-start": lambda layer: np.zeros_like(layer.initial),
}
"""Name of a mask-0 action -> the values of pruned weights.

They stay there, except those of `zero-start`, which only begin at 0 and are trained as the others are.
`freeze-init-zero-mask` is Variant 1 of the paper: zero for weights that moved toward zero, their initial value for the
others. `freeze-init-zero-all`, Variant 2, starts kept weights that moved toward zero at 0, too; they are trained.
`freeze-init-zero-reverse` zeroes those that moved away instead, and `freeze-init-zero-reshuffle` as many at random.
"""


@dataclass(frozen=True)
class Action:
    """What happens to a network before it is trained again.

    Attributes:
        kept, pruned: names in KEPT and PRUNED.
        rescale: whether the start of each layer is multiplied by size / number kept, so that its sums keep their size.
        tag: makes the random bits of this action differ from those of others with the same seed.
    """

    kept: str = "rewind"
    pruned: str = "zero"
    rescale: bool = False
    tag: str = ""

    def __call__(self, seed: int, initial: Tree, final: Tree, mask: Tree) -> tuple[Tree, Tree, Tree]:
        """Return (weights to start from, mask of what is trained, values of the frozen weights).

        `initial` and `final` hold all parameters, `mask` the maskable ones; parameters without a mask, such as biases,
        go back to their initial values.
        """
        start, trained, frozen = dict(initial), {}, {}
        for name, kept in mask.items():
            layer = Layer(initial[name], final[name], kept, stream(seed, self.tag, self.kept, name))
            values = np.asarray(KEPT[self.kept](layer), np.float32)
            layer = Layer(initial[name], final[name], kept, stream(seed, self.tag, self.pruned, name))
            pruned = np.asarray(PRUNED[self.pruned](layer), np.float32)
            if self.pruned == "freeze-init-zero-all":
                values = np.where(_toward_zero(layer), np.float32(0), values)
            if self.rescale:
                values = values * np.float32(kept.size / max(1, int(kept.sum())))
            start[name] = np.where(kept, values, pruned)
            trained[name] = np.ones_like(kept) if self.pruned == "zero-start" else kept
            frozen[name] = pruned
        return start, trained, frozen


def shuffled(seed: int, tag: str, mask: Tree) -> Tree:
    """The mask with its values shuffled within each layer."""
    return {name: permuted(kept, stream(seed, tag, "shuffle", name)) for name, kept in mask.items()}
