"""Turns a Flax Linen module into a Model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from supermask.archs._call import chosen, flags_of, values_of
from supermask.archs._pure import from_functions
from supermask.types import Array, Model

LAYERS = {"Dense": "Linear", "DenseGeneral": "LinearGeneral"}
"""NNX's names of layers that are called otherwise in Linen."""


def from_linen(module: linen.Module, example: Any, name: str, *, output: Any = None, traced: bool = True) -> Model:
    """Make a Model whose weights are the module's `params` and whose state are its other collections.

    Args:
        example: `jax.ShapeDtypeStruct` of a batch.
        name, output: see `_call`.
        traced: see `from_functions`.
    """
    flags = tuple(flag for flag in flags_of(module.__call__, name) if flag != "rngs")
    kinds: dict[str, str] = {}

    def noted(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        kind = type(context.module).__name__
        kinds["/".join(context.module.path)] = LAYERS.get(kind, kind) if hasattr(linen, kind) else ""
        return call(*args, **kwargs)

    def initialise(key: Array) -> tuple[Any, Any]:
        inputs = jnp.zeros(example.shape, example.dtype)
        streams = {name: jax.random.fold_in(key, i) for i, name in enumerate(("params", "dropout"))}
        with linen.intercept_methods(noted):
            found = module.init(streams, inputs, **values_of(flags, False, None))
        found = {group: linen.unbox(tree) for group, tree in found.items() if group != "intermediates"}
        return found.pop("params", {}), found

    def apply(weights: Any, state: Any, inputs: Array, train: bool, key: Array | None) -> tuple[Any, Any]:
        streams = None if key is None else {"dropout": key}
        found, after = module.apply(
            {"params": weights, **state}, inputs, mutable=list(state), rngs=streams, **values_of(flags, train, key)
        )
        return chosen(found, output, name), dict(after) if train else state

    model = from_functions(initialise, apply, traced=traced)
    return replace(model, layers={name: kinds.get(name.rpartition("/")[0], "") for name in model.weights})
