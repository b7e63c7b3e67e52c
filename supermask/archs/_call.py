"""How a network is applied: the flags that its signature asks for, and which of its outputs counts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from supermask.errors import UsageError
from supermask.types import Array

TRAINING = ("train", "training", "is_training")
EVALUATING = ("deterministic", "inference", "use_running_average")
RANDOM = ("rngs", "key", "rng")


def flags_of(function: Callable[..., Any], name: str) -> tuple[str, ...]:
    """The parameters of a network's call that are passed by name: those of TRAINING, EVALUATING and RANDOM.

    Args:
        function: takes the inputs first.
        name: the network's, for messages.

    Raises:
        UsageError: it needs another one.
    """
    try:
        _, *more = inspect.signature(function).parameters.values()
    except ValueError:  # no parameters at all, or no signature
        return ()
    known = [p.name for p in more if p.name in TRAINING + EVALUATING + RANDOM]
    for parameter in more:
        given = parameter.name in known or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.default is parameter.empty and not given:
            raise UsageError(
                f"{name} is called with {parameter.name}, whose value supermask does not know: give it a default, or "
                f"name it {TRAINING[0]} or {EVALUATING[0]} if it tells training from evaluation"
            )
    return tuple(known)


def values_of(flags: tuple[str, ...], train: bool, key: Array | None) -> dict[str, Any]:
    """The values of these parameters. In evaluation, whatever is drawn is drawn from key 0."""
    key = jax.random.key(0) if key is None else key
    values: dict[str, Any] = dict.fromkeys(TRAINING, train) | dict.fromkeys(EVALUATING, not train)
    random = {"rngs": lambda: nnx.Rngs(key), "key": lambda: key, "rng": lambda: key}
    return {flag: random[flag]() if flag in random else values[flag] for flag in flags}


def chosen(found: Any, output: Any, name: str) -> Array:
    """The output that counts: what the network returns, or the part of it that `-a output=` names.

    Raises:
        UsageError: it returns several, and none is named, or one that is not there.
    """
    if output is None:
        if isinstance(found, dict | tuple | list):
            parts = list(found) if isinstance(found, dict) else range(len(found))
            raise UsageError(
                f"{name} returns a {type(found).__name__} of {', '.join(map(str, parts))}: say which of them are the "
                f"outputs, as in -a output={next(iter(parts), 0)}"
            )
        return found
    try:
        return found[output]
    except (KeyError, IndexError, TypeError):
        parts = list(found) if isinstance(found, dict) else range(len(found)) if isinstance(found, tuple | list) else []
        what = f"a {type(found).__name__} of {', '.join(map(str, parts))}" if parts else "a single array"
        raise UsageError(f"{name} has no output {output!r}: it returns {what}") from None
