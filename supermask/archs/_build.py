"""Builds a Model from an arch, or from a user's own class or function."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
from flax import linen, nnx

from supermask.archs._equinox import from_equinox, is_equinox
from supermask.archs._linen import flags_to_make, from_linen
from supermask.archs._nnx import NotAModuleError, from_module
from supermask.archs._pure import UNTRACEABLE, from_pair, state_of
from supermask.archs._usage import trace
from supermask.errors import SupermaskError, UsageError, one_line, require
from supermask.types import Array, Model
from supermask.weights.parameters import Parameter

OFFERED = ("image_shape", "classes", "width", "activation", "rngs")
"""The arguments that a user's own class or function receives if its signature names them."""
ALIASES = {
    "classes": ("num_classes", "n_classes", "num_labels", "num_outputs", "out_features"),
    "channels": ("in_channels", "num_channels", "in_chans", "input_channels"),
    "size": ("img_size", "image_size", "input_size"),
    "tokens": ("vocab", "vocab_size", "num_tokens", "num_embeddings"),
    "length": ("length", "seq_len", "context_length", "block_size", "max_len", "max_length"),
}
"""Usual other names of the number of classes; of the channels of an image, and of its height, if it is square; of the
number of tokens, which are the classes of sequences, and of the length of a sequence."""

Rngs = Callable[[nnx.Rngs], Any]


def build_model(arch: Any, options: Mapping[str, Any], example: Any, outputs: int, **config: Any) -> Model:
    """Build the Model of an `Arch`, or of a user's own class or function.

    A user's own may make a Flax NNX or Linen module, an Equinox module, a Model, or a pair (init, apply).

    Args:
        arch: an object with a `build` function, or a callable; a callable gets the options and those of OFFERED and
            ALIASES that its signature names.
        options: options for a user's own callable, as text or as values. `output` names the output that counts, of a
            network that returns several.
        example: `jax.ShapeDtypeStruct` of a batch.
        outputs: number of classes.
        config: values of OFFERED.

    Raises:
        UsageError: an option is unknown or missing, or the network cannot be a Model.
        SupermaskError: the network cannot be made.
    """
    name = getattr(arch, "__qualname__", type(arch).__qualname__)
    output, own = None, inspect.isclass(arch) or not hasattr(arch, "build")
    if not own:
        make: Rngs = lambda rngs: arch.build(example, outputs, rngs)  # noqa: E731
    else:
        if "output" in options and "output" not in _parameters(arch):
            options, output = {k: v for k, v in options.items() if k != "output"}, options["output"]
        shape = tuple(example.shape[1:])
        offered = {
            "image_shape": shape,
            "classes": outputs,
            **_aliases(shape, outputs),
            **flags_to_make(arch),
            **config,
        }
        make = _maker(arch, name, offered, options)
    how: dict[str, Any] = {"output": output, "traced": True, "axis": None}
    while True:
        try:
            described = _described(_model(make, example, name, **how), name, example)
            return described if own else replace(described, parameters=_without_shapes(described.parameters))
        except UNTRACEABLE as error:
            if not how["traced"]:
                raise SupermaskError(f"cannot make the network {name}: {one_line(error)}") from error
            how["traced"] = False
        except _UnboundAxisError as error:
            if how["axis"] is not None:
                raise SupermaskError(f"the network {name} needs two named axes: {how['axis']}, {error}") from error
            how["axis"] = str(error)


class _UnboundAxisError(Exception):
    """The network takes means over an axis of this name, as batch norm with `axis_name="batch"` does."""


def _over_axis(model: Model, axis: str) -> Model:
    """The same network where there is an axis of this name, of the batches that are one batch together: one."""

    def apply(weights: Any, state: Any, inputs: Array, *, train: bool, key: Array | None) -> tuple[Array, Any]:
        applied = partial(model.apply, train=train)
        over = jax.vmap(lambda *a: applied(*a[:3], key=a[3]), None, None, axis_name=axis, axis_size=1)
        return over(weights, state, inputs, key)

    return replace(model, apply=apply)


def _maker(arch: Any, name: str, offered: dict[str, Any], options: Mapping[str, Any]) -> Rngs:
    words = _arguments(arch, name, offered, options)
    accepted = _parameters(arch)
    with_rngs = "rngs" in accepted or any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    drawn = {"rngs": lambda rngs: rngs} if with_rngs else {}
    drawn |= {"key": lambda rngs: rngs.params()} if "key" in accepted and "key" not in words else {}

    def make(rngs: nnx.Rngs) -> Any:
        try:
            return arch(**words, **{key: draw(rngs) for key, draw in drawn.items()})
        except TypeError as error:
            if "rngs" in accepted or "unexpected keyword argument 'rngs'" not in str(error):
                raise
            return arch(**words)  # what it hands **kwargs on to takes none

    return make


def _model(make: Rngs, example: Any, name: str, *, axis: str | None, **how: Any) -> Model:
    try:
        try:
            model = from_module(make, name, **how)
        except NotAModuleError as error:
            if is_equinox(error.found):
                return from_equinox(lambda key: make(nnx.Rngs(key)), name, axis=axis, **how)
            model = _of_other(error.found, make, example, name, **how)
    except (SupermaskError, *UNTRACEABLE):
        raise
    except Exception as error:
        raise SupermaskError(f"cannot make the network {name}: {one_line(error)}") from error
    return model if axis is None else _over_axis(model, axis)


def _of_other(found: Any, make: Rngs, example: Any, name: str, **how: Any) -> Model:
    """Return the Model of what is neither an NNX nor an Equinox module."""
    if isinstance(found, Model):
        return found
    if isinstance(found, linen.Module):
        return from_linen(make(nnx.Rngs(0)), example, name, **how)
    if isinstance(found, tuple) and len(found) == 2 and all(map(callable, found)):
        return from_pair(found, example, name, **how)
    raise UsageError(
        f"{name} makes a {type(found).__name__}; it must make a Flax NNX or Linen module, an Equinox module, a "
        "supermask.Model or a pair of functions (init, apply)"
    )


def _described(model: Model, name: str, example: Any) -> Model:
    """Fill in what the network's program tells: the parameters' roles, which state changes, the outputs."""
    try:
        traced = trace(model.apply, model.weights, state_of(model), example)
    except (SupermaskError, *UNTRACEABLE):
        raise
    except Exception as error:
        if unbound := re.search(r"unbound axis name: (\w+)", str(error)):
            raise _UnboundAxisError(unbound[1]) from error
        shape = tuple(example.shape[1:])
        raise SupermaskError(f"the network {name} cannot be applied to inputs of {shape}: {one_line(error)}") from error
    parameters = {}
    for key, shape in model.weights.items():
        role, fans, flattened = traced.uses[key]
        parameters[key] = Parameter(shape, role, role == "kernel", fans, model.layers.get(key, ""), flattened=flattened)
    return replace(model, parameters=parameters, changes=traced.changes, outputs=traced.outputs)


def _without_shapes(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a built-in arch, which says itself where it flattens images."""
    return {name: replace(found, flattened=None) for name, found in parameters.items()}


def check_outputs(model: Model, name: str, example: Any, expected: tuple[int, ...]) -> None:
    """Check that the network returns outputs of the expected shape (batch first) for the example.

    Raises:
        UsageError: the outputs have another shape.
    """
    if getattr(model.outputs, "shape", None) != expected:
        found = getattr(model.outputs, "shape", f"a {type(model.outputs).__name__}")
        raise UsageError(f"the network {name} maps {example.shape[0]} inputs to {found}; it must return {expected}")


def _parameters(make: Any) -> Mapping[str, inspect.Parameter]:
    # The metaclass of nnx.Module hides the signature of the class, so read it from __init__.
    found = inspect.signature(make.__init__ if inspect.isclass(make) else make).parameters
    return {key: p for key, p in found.items() if key != "self"}


def _arguments(make: Any, name: str, offered: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a user's class or function is called with: what its signature names, and the options."""
    accepted = _parameters(make)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    own = {key: p for key, p in accepted.items() if key not in (*offered, "rngs", "key") and p.kind not in kinds}
    words = {key: value for key, value in offered.items() if key in accepted}
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


def _aliases(image_shape: tuple[int, ...], classes: int) -> dict[str, Any]:
    """The values of ALIASES for images, or sequences, and classes like these."""
    values: dict[str, Any] = {"classes": classes}
    if len(image_shape) == 1:
        values |= {"tokens": classes, "length": image_shape[0]}
    else:
        values["channels"] = image_shape[-1]
        if image_shape[0] == image_shape[1]:
            values["size"] = image_shape[0]
    return {alias: value for key, value in values.items() for alias in ALIASES[key]}
