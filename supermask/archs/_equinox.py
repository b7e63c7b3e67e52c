"""Turns an Equinox module, which is written for one image, into a Model. Equinox is needed only by who brings one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from supermask.archs._call import Flags, chosen, flags_of, values_of
from supermask.archs._pure import from_functions
from supermask.types import Array, Model


def is_equinox(found: Any) -> bool:
    """Whether this is an Equinox module, alone or with its state, as `equinox.nn.make_with_state` returns them."""
    equinox = sys.modules.get("equinox")
    first = found[0] if isinstance(found, tuple) and found else found
    return equinox is not None and isinstance(first, equinox.Module)


def from_equinox(
    make: Callable[[Array], Any], name: str, *, output: Any = None, traced: bool = True, axis: str | None = None
) -> Model:
    """Make a Model of a module that maps one image (height, width, channels) to its outputs.

    Its arrays of floats are parameters. In evaluation it is in inference mode. A module that comes with an
    `equinox.nn.State` is called with it, and returns (outputs, state).

    Args:
        make: (key) -> module, or (module, state).
        name, output: see `_call`.
        traced: see `from_functions`.
        axis: name of the axis of images, `batch` if it is None.
    """
    import equinox

    static: list[Any] = []
    flags: list[Flags] = []

    def initialise(key: Array) -> tuple[Any, Any]:
        found = make(key)
        module, own = found if isinstance(found, tuple) else (found, None)
        weights, other = equinox.partition(module, equinox.is_inexact_array)
        arrays, rest = equinox.partition(other, equinox.is_array)
        static.append(rest)
        call = module.__call__ if own is None else partial(module.__call__, state=own)
        flags.append({flag: word for flag, word in flags_of(call, name).items() if flag != "state"})
        return weights, arrays if own is None else {"arrays": arrays, "state": own}

    def apply(weights: Any, state: Any, inputs: Array, train: bool, key: Array | None) -> tuple[Any, Any]:
        stateful = isinstance(state, dict) and "state" in state
        arrays, own = (state["arrays"], state["state"]) if stateful else (state, None)
        module = equinox.nn.inference_mode(equinox.combine(weights, arrays, static[0]), not train)
        keys = jax.random.split(jax.random.key(0) if key is None else key, len(inputs))

        def one(x: Array, s: Any, k: Array) -> tuple[Any, Any]:
            words = values_of(flags[0], train, k)
            return module(x, s, **words) if stateful else (module(x, **words), None)

        found, own = jax.vmap(one, in_axes=(0, None, 0), out_axes=(0, None), axis_name=axis or "batch")(
            inputs, own, keys
        )
        return chosen(found, output, name), {"arrays": arrays, "state": own} if stateful else state

    return from_functions(initialise, apply, traced=traced)
