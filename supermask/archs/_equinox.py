"""Turns an Equinox module, which is written for one image, into a Model. Equinox is needed only by who brings one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jax

from supermask.archs._call import chosen, flags_of, values_of
from supermask.archs._pure import from_functions
from supermask.errors import UsageError
from supermask.types import Array, Model


def is_equinox(found: Any) -> bool:
    """Whether this is an Equinox module, alone or with its state, as `equinox.nn.make_with_state` returns them."""
    equinox = sys.modules.get("equinox")
    first = found[0] if isinstance(found, tuple) and found else found
    return equinox is not None and isinstance(first, equinox.Module)


def from_equinox(make: Callable[[Array], Any], name: str, *, output: Any = None, traced: bool = True) -> Model:
    """Make a Model of a module that maps one image (height, width, channels) to its outputs.

    Its arrays of floats are parameters. In evaluation it is in inference mode.

    Args:
        make: (key) -> module.
        name, output: see `_call`.
        traced: see `from_functions`.

    Raises:
        UsageError: it comes with an `equinox.nn.State`.
    """
    import equinox

    static: list[Any] = []
    flags: list[tuple[str, ...]] = []

    def initialise(key: Array) -> tuple[Any, Any]:
        module = make(key)
        if isinstance(module, tuple):
            raise UsageError(f"{name} comes with an equinox.nn.State: take a normalisation that has none")
        weights, other = equinox.partition(module, equinox.is_inexact_array)
        arrays, rest = equinox.partition(other, equinox.is_array)
        static.append(rest)
        flags.append(flags_of(module.__call__, name))
        return weights, arrays

    def apply(weights: Any, state: Any, inputs: Array, train: bool, key: Array | None) -> tuple[Any, Any]:
        module = equinox.nn.inference_mode(equinox.combine(weights, state, static[0]), not train)
        keys = jax.random.split(jax.random.key(0) if key is None else key, len(inputs))
        found = jax.vmap(lambda x, k: module(x, **values_of(flags[0], train, k)))(inputs, keys)
        return chosen(found, output, name), state

    return from_functions(initialise, apply, traced=traced)
