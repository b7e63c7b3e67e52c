"""Flags of training and evaluation reach every layer of a Sequential; Flax hands them to the first one alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

from flax import linen, nnx

from supermask.archs._call import EVALUATING, TRAINING


def pass_flags(part: nnx.Module) -> None:
    """Let a module that is called as `nnx.Sequential` is pass on the mode in its attribute `training`."""
    if type(part).__call__ is nnx.Sequential.__call__:
        part.__class__ = _passing(type(part))
        part.training = False  # type: ignore[attr-defined]


def linen_flags(train: bool) -> Any:
    """A context in which the layers of a `linen.Sequential` are given the flags that they take and do not have."""

    def given(call: Any, args: Sequence[Any], kwargs: dict[str, Any], context: Any) -> Any:
        layer = context.module
        if context.method_name != "__call__" or not isinstance(layer.parent, linen.Sequential):
            return call(*args, **kwargs)
        flags = _missing(layer.__call__, args, kwargs, train)
        unset = {name: value for name, value in flags.items() if getattr(layer, name, None) is None}
        return call(*args, **kwargs, **unset)

    return linen.intercept_methods(given)


@cache
def _passing(kind: type[nnx.Module]) -> type[nnx.Module]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        layers = [layer if _of_flax(layer) else _given(layer, self.training) for layer in self.layers]
        return nnx.Sequential.__call__(SimpleNamespace(layers=layers), *args, **kwargs)  # type: ignore[arg-type]

    return type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})


def _of_flax(layer: Any) -> bool:
    """Whether the layer is one of Flax's, whose mode is an attribute."""
    return isinstance(layer, nnx.Module) and type(layer).__module__.startswith("flax.")


def _given(layer: Callable[..., Any], train: bool) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return layer(*args, **kwargs, **_missing(layer, args, kwargs, train))

    call.__wrapped__ = layer  # type: ignore[attr-defined]  # for whoever looks at its signature
    return call


def _missing(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], train: bool
) -> dict[str, bool]:
    """The flags that a function takes by name and that its author has not set, neither here nor in a partial."""
    try:
        signature = inspect.signature(function)
        bound = signature.bind_partial(*args, **kwargs).arguments
    except (TypeError, ValueError):  # it has no signature, or another one: the call itself will say so
        return {}
    bound = {**getattr(function, "keywords", {}), **bound}
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    free = [name for name, p in signature.parameters.items() if p.kind in kinds and name not in bound]
    return {name: train if name in TRAINING else not train for name in free if name in TRAINING + EVALUATING}
