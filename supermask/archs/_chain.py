"""Layers in a row whose parameters are named by their place, as in PyTorch's `nn.Sequential`."""

from __future__ import annotations

from collections.abc import Callable

from flax import nnx

from supermask.types import Array


class Chain(nnx.List):
    """Layers one after the other: as `stem`, `Chain([conv, norm])` has `stem/0/kernel` and `stem/1/scale`."""

    def __call__(self, x: Array) -> Array:
        for layer in self:
            x = layer(x)
        return x


class Apply(nnx.Module):
    """A function in a Chain: it has no parameters and takes up a place."""

    def __init__(self, function: Callable[[Array], Array]):
        self.function = function

    def __call__(self, x: Array) -> Array:
        return self.function(x)
