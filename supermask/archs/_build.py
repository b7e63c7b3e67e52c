"""Builds a Model from an arch, or from a user's own class or function."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from supermask.archs._nnx import from_module
from supermask.errors import SupermaskError, UsageError, one_line, require
from supermask.types import Model

OFFERED = ("image_shape", "classes", "width", "activation", "rngs")
"""The arguments that a user's own class or function receives if its signature names them."""


def build_model(arch: Any, options: Mapping[str, Any], example: Any, outputs: int, **config: Any) -> Model:
    """Build the Model of an `Arch`, of a user's own `nnx.Module` class, or of a function returning a module or a Model.

    Args:
        arch: an object with a `build` function, or a callable; a callable gets the options and those of OFFERED that
            its signature names.
        options: options for a user's own callable, as text or as values.
        example: `jax.ShapeDtypeStruct` of a batch.
        outputs: number of classes.
        config: values of OFFERED.

    Raises:
        UsageError: an option is unknown or missing, or the module cannot be masked.
        SupermaskError: the network cannot be made.
    """
    name = getattr(arch, "__qualname__", type(arch).__qualname__)
    if not inspect.isclass(arch) and hasattr(arch, "build"):
        make = lambda rngs: arch.build(example, outputs, rngs)  # noqa: E731
    else:
        offered = {"image_shape": tuple(example.shape[1:]), "classes": outputs, **config}
        words = _arguments(arch, name, offered, options)
        make = lambda rngs: arch(**words | ({"rngs": rngs} if _takes(arch, "rngs") else {}))  # noqa: E731
    models: list[Model] = []  # a Model is no value that JAX can trace

    def made() -> Any:
        found = make(nnx.Rngs(0))
        if isinstance(found, Model):
            models.append(found)
            return None
        return found

    try:
        module = nnx.eval_shape(made)
    except SupermaskError:
        raise
    except Exception as error:
        raise SupermaskError(f"cannot make the network {name}: {one_line(error)}") from error
    return models[0] if models else from_module(module)


def check_outputs(model: Model, name: str, example: Any, expected: tuple[int, ...]) -> None:
    """Check that the network returns outputs of the expected shape (batch first) for the example.

    Raises:
        UsageError: the outputs have another shape.
        SupermaskError: the network cannot be applied to the example.
    """
    as_struct = lambda shapes: {key: jax.ShapeDtypeStruct(s, "float32") for key, s in shapes.items()}  # noqa: E731
    weights, state = as_struct(model.weights), as_struct(model.state)
    shape = tuple(example.shape[1:])
    try:
        found, _ = jax.eval_shape(
            lambda w, s, x: model.apply(w, s, x, train=True, key=jax.random.key(0)), weights, state, example
        )
    except SupermaskError:
        raise
    except Exception as error:
        raise SupermaskError(f"the network {name} cannot be applied to inputs of {shape}: {one_line(error)}") from error
    if found.shape != expected:
        raise UsageError(
            f"the network {name} maps {example.shape[0]} inputs to {found.shape}; it must return {expected}"
        )


def _parameters(make: Any) -> Mapping[str, inspect.Parameter]:
    # The metaclass of nnx.Module hides the signature of the class, so read it from __init__.
    found = inspect.signature(make.__init__ if inspect.isclass(make) else make).parameters
    return {key: p for key, p in found.items() if key != "self"}


def _takes(make: Any, word: str) -> bool:
    accepted = _parameters(make)
    return word in accepted or any(p.kind is p.VAR_KEYWORD for p in accepted.values())


def _arguments(make: Any, name: str, offered: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    accepted = _parameters(make)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    own = {
        key: p for key, p in accepted.items() if key not in OFFERED and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    words = {key: value for key, value in offered.items() if open_ended or key in accepted}
    for key, value in options.items():
        if not (open_ended or key in accepted):
            require(f"option of {name}", key, own)
        words[key] = value
    if offered.get("width", 1) != 1 and "width" not in words:
        raise UsageError(f"{name} has no parameter width to multiply: leave out --width")
    for key, parameter in own.items():
        if parameter.default is parameter.empty and key not in words:
            raise UsageError(f"{name} needs the option {key}: give -a {key}=VALUE")
    return words
