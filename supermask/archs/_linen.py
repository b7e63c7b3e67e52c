"""Turns a Flax Linen module into a Model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from supermask.archs._call import EVALUATING, TRAINING, Flags, chosen, flags_of, values_of
from supermask.archs._pure import from_functions
from supermask.archs._sequential import linen_flags
from supermask.types import Array, Model

LAYERS = {"Dense": "Linear", "DenseGeneral": "LinearGeneral"}
"""NNX's names of layers that are called otherwise in Linen."""
STREAMS = ("params", "dropout")
"""Streams of random numbers. Flax takes `params` for any other that a module asks for."""


def from_linen(module: linen.Module, example: Any, name: str, *, output: Any = None, traced: bool = True) -> Model:
    """Make a Model whose weights are the module's `params` and whose state are its other collections.

    A collection that an application makes anew, as `sow` does, is not state. In evaluation no collection is mutable.

    Args:
        example: `jax.ShapeDtypeStruct` of a batch.
        name, output: see `_call`.
        traced: see `from_functions`.
    """
    flags = {flag: word for flag, word in flags_of(module.__call__, name).items() if flag != "rngs"}
    kinds: dict[str, str] = {}

    def noted(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        kind = type(context.module).__name__
        kinds["/".join(context.module.path)] = LAYERS.get(kind, kind) if hasattr(linen, kind) else ""
        return call(*args, **kwargs)

    def initialise(key: Array) -> tuple[Any, Any]:
        inputs = jnp.zeros(example.shape, example.dtype)
        streams = {name: jax.random.fold_in(key, i) for i, name in enumerate(STREAMS)}
        with linen_flags(False), linen.intercept_methods(noted):
            found = _in_mode(module, flags, False).init(streams, inputs, **values_of(flags, False, None))
        found = {group: linen.unbox(tree) for group, tree in found.items()}
        sown = [group for group, tree in found.items() if any(isinstance(end, tuple) for end in _ends(tree))]
        others = {group: tree for group, tree in found.items() if group not in ("params", "intermediates", *sown)}
        return found.get("params", {}), others

    def apply(weights: Any, state: Any, inputs: Array, train: bool, key: Array | None) -> tuple[Any, Any]:
        # Some modules ask whether there is a stream to tell training from evaluation.
        streams = None if key is None else {"dropout": key, "params": jax.random.fold_in(key, 0)}
        with linen_flags(train):
            found, after = _in_mode(module, flags, train).apply(
                {"params": weights, **state},
                inputs,
                mutable=list(state) if train else [],
                rngs=streams,
                **values_of(flags, train, key),
            )
        return chosen(found, output, name), dict(after) if train else state

    model = from_functions(initialise, apply, traced=traced)
    layers = {name: kinds.get(name.rpartition("/")[0], "") for name in model.weights}
    layers |= {name: "BatchStat" for name in model.state if name.startswith("batch_stats/")}
    return replace(model, layers=layers)


def flags_to_make(arch: Any) -> dict[str, bool]:
    """The flags of training and evaluation that a Linen class cannot be made without; set anew for each application."""
    if not (isinstance(arch, type) and issubclass(arch, linen.Module)):
        return {}
    needed = [f.name for f in dataclasses.fields(arch) if f.default is f.default_factory is dataclasses.MISSING]
    return {name: name in EVALUATING for name in needed if name in TRAINING + EVALUATING}


def _in_mode(module: linen.Module, flags: Flags, train: bool) -> linen.Module:
    """The module with the flags that its call does not take set in its fields, as in `Net(train=True)`."""
    fields = [f.name for f in dataclasses.fields(module) if f.name in TRAINING + EVALUATING and f.name not in flags]
    values: dict[str, Any] = {
        name: train if name in TRAINING else not train for name in fields if getattr(module, name) is not None
    }
    return module.clone(**values) if values else module


def _ends(tree: Any) -> list[Any]:
    """What lies at the ends of a collection, which is nested dicts."""
    return [end for part in tree.values() for end in _ends(part)] if isinstance(tree, Mapping) else [tree]
