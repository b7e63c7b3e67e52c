"""A Flax NNX module, ours or a user's, as a Model: shapes and a pure function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax import lax

from supermask.errors import SupermaskError, UsageError, one_line
from supermask.types import Array, Model, Tree


def adapt(make: Any, convolution: Callable[..., Array], **offered: Any) -> Model:
    """The Model behind an arch.

    Args:
        make: an `nnx.Module` class, or a function that returns an `nnx.Module` or a Model. It is called with
            those keywords of `offered`, and `rngs`, that it names. The module maps a float32 batch
            (batch, height, width, channels) to logits (batch, classes).
        convolution: replaces `lax.conv_general_dilated` in every `nnx.Conv`.
        offered: image_shape (height, width, channels), classes, width (multiplier), depth, activation
            (a function of an array).

    Raises:
        UsageError: the module holds variables other than parameters and batch statistics, or its logits have
            the wrong shape.
        SupermaskError: it cannot be made or applied.
    """
    shape, classes = offered["image_shape"], offered["classes"]
    try:
        module = nnx.eval_shape(lambda: _call(make, offered))
    except SupermaskError:
        raise
    except Exception as error:
        raise SupermaskError(f"cannot make the network {_name(make)}: {one_line(error)}") from error
    model = module if isinstance(module, Model) else _from_module(module, convolution)
    _check_logits(model, shape, classes, _name(make))
    return model


def _call(make: Any, offered: dict[str, Any]) -> Any:
    # An nnx.Module class hides its own signature behind that of its metaclass.
    accepted = inspect.signature(make.__init__ if inspect.isclass(make) else make).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    words = {"rngs": nnx.Rngs(0), **{key: value for key, value in offered.items() if value is not None}}
    return make(**{key: value for key, value in words.items() if open_ended or key in accepted})


def _from_module(module: nnx.Module, convolution: Callable[..., Array]) -> Model:
    for _, part in nnx.iter_modules(module):
        if isinstance(part, nnx.Conv) and part.conv_general_dilated is lax.conv_general_dilated:
            part.conv_general_dilated = convolution
    module.eval()
    evaluating = nnx.split(module)[0]
    module.train()
    split: Any = nnx.split(module, nnx.Param, nnx.BatchStat, ...)
    training, params, stats, rest = split
    if foreign := nnx.to_flat_state(rest):
        path, variable = foreign[0]
        raise UsageError(
            f"{_join(path)} is a {type(variable).__name__}: a masked network may hold parameters and batch statistics "
            "only, so leave out dropout and other random layers"
        )
    variables = {
        _join(path): (path, type(variable)) for path, variable in nnx.to_flat_state(nnx.merge_state(params, stats))
    }

    def apply(weights: Tree, stats: Tree, x: Array, train: bool) -> tuple[Array, Tree]:
        values = weights | stats
        state = nnx.from_flat_state([(path, kind(values[name])) for name, (path, kind) in variables.items()])
        net = nnx.merge(training if train else evaluating, state)
        logits = net(x)
        after = nnx.to_flat_state(nnx.state(net, nnx.BatchStat))
        return logits, {_join(path): variable[...] for path, variable in after}

    return Model(weights=_shapes(params), stats=_shapes(stats), apply=apply)


def _check_logits(model: Model, shape: tuple[int, ...], classes: int, name: str) -> None:
    as_struct = lambda shapes: {key: jax.ShapeDtypeStruct(s, "float32") for key, s in shapes.items()}  # noqa: E731
    image = jax.ShapeDtypeStruct((2, *shape), "float32")
    try:
        logits, _ = jax.eval_shape(
            lambda w, s, x: model.apply(w, s, x, True), as_struct(model.weights), as_struct(model.stats), image
        )
    except SupermaskError:
        raise
    except Exception as error:
        raise SupermaskError(f"the network {name} cannot be applied to images of {shape}: {one_line(error)}") from error
    if logits.shape != (2, classes):
        raise UsageError(
            f"the network {name} maps 2 images to {logits.shape}; it must give logits of shape (2, {classes})"
        )


def _shapes(state: Any) -> dict[str, tuple[int, ...]]:
    return {
        _join(path): tuple(variable.shape)
        for path, variable in sorted(nnx.to_flat_state(state), key=lambda item: _join(item[0]))
    }


def _join(path: tuple[Any, ...]) -> str:
    return "/".join(map(str, path))


def _name(make: Any) -> str:
    return getattr(make, "__qualname__", str(make))
