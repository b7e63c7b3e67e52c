"""How a network is applied: the flags that its signature asks for, and which of its outputs counts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any

import jax
from flax import nnx

from supermask.errors import UsageError
from supermask.types import Array

TRAINING = ("train", "training", "is_training")
EVALUATING = ("deterministic", "inference", "use_running_average")
RANDOM = ("rngs", "key", "rng")
OPEN_ENDED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


Flags = dict[str, str]
"""Parameters that are passed by name, each with the word of TRAINING, EVALUATING or RANDOM whose value it gets."""


def flags_of(function: Callable[..., Any], name: str) -> Flags:
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
        return {}
    return flags_among(more, name)


def flags_among(parameters: Iterable[inspect.Parameter], name: str) -> Flags:
    """Those of these parameters that are passed by name; see `flags_of`."""
    known = {}
    for parameter in parameters:
        if parameter.name in TRAINING + EVALUATING + RANDOM:
            known[parameter.name] = _random_kind(parameter) if parameter.name in RANDOM else parameter.name
        elif parameter.default is parameter.empty and parameter.kind not in OPEN_ENDED:
            raise UsageError(
                f"{name} is called with {parameter.name}, whose value supermask does not know: give it a default, or "
                f"name it {TRAINING[0]} or {EVALUATING[0]} if it tells training from evaluation"
            )
    return known


def _random_kind(parameter: inspect.Parameter) -> str:
    """What a parameter of RANDOM is, a key or `nnx.Rngs`: its annotation says so, or its name if it has none."""
    said = str(parameter.annotation)
    if "Rngs" in said:
        return "rngs"
    return "key" if "Array" in said or "Key" in said else parameter.name


def values_of(flags: Flags, train: bool, key: Array | None) -> dict[str, Any]:
    """The values of these parameters. In evaluation, whatever is drawn is drawn from key 0."""
    key = jax.random.key(0) if key is None else key
    values: dict[str, Any] = dict.fromkeys(TRAINING, train) | dict.fromkeys(EVALUATING, not train)
    random = {"rngs": lambda: nnx.Rngs(key), "key": lambda: key, "rng": lambda: key}
    return {flag: random[word]() if word in random else values[word] for flag, word in flags.items()}


def chosen(found: Any, output: Any, name: str) -> Array:
    """The output that counts: what the network returns, or the part of it that `-a output=` names.

    Raises:
        UsageError: it returns several, and none is named, or one that is not there.
    """
    parts = _parts(found)
    if output is None:
        if parts is None:
            return found
        raise UsageError(
            f"{name} returns a {type(found).__name__} of {', '.join(map(str, parts))}: say which of them are the "
            f"outputs, as in -a output={next(iter(parts), 0)}"
        )
    if parts is not None and output in parts:
        return parts[output]
    if isinstance(found, tuple) and isinstance(output, int) and -len(found) <= output < len(found):
        return found[output]
    what = f"a {type(found).__name__} of {', '.join(map(str, parts))}" if parts else "a single array"
    raise UsageError(f"{name} has no output {output!r}: it returns {what}")


def _parts(found: Any) -> dict[Any, Any] | None:
    """The parts of a dict, tuple, list or dataclass by their keys, places or names; None of anything else."""
    if isinstance(found, Mapping):
        return dict(found)
    if isinstance(found, tuple | list):
        return dict(zip(getattr(found, "_fields", range(len(found))), found, strict=True))
    return dict(vars(found)) if is_dataclass(found) else None
