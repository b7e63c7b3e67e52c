"""Turns a Flax NNX module into a Model: shapes and a pure function."""

from __future__ import annotations

import zlib
from typing import Any

import jax
from flax import nnx

from supermask.errors import UsageError
from supermask.types import Array, Model, Tree


def from_module(module: nnx.Module) -> Model:
    """Make a Model whose `weights` are the module's parameters and whose `state` is its batch statistics.

    Random streams, such as those of dropout, belong to neither. In training, each is seeded from the step's key and its
    own path. In evaluation, the module is in `eval` mode and draws nothing.

    Args:
        module: a module that may hold shapes in place of arrays, as `nnx.eval_shape` returns.

    Raises:
        UsageError: the module holds variables of other kinds; the message names the first.
    """
    module.eval()
    evaluating = nnx.split(module)[0]
    module.train()
    split: Any = nnx.split(module, nnx.Param, nnx.BatchStat, nnx.RngState, ...)
    training, params, stats, streams, rest = split
    if foreign := nnx.to_flat_state(rest):
        path, variable = foreign[0]
        raise UsageError(
            f"{_join(path)} is a {type(variable).__name__}: a masked network may hold parameters, batch statistics and "
            "random streams only"
        )
    named = {
        _join(path): (path, type(variable)) for path, variable in nnx.to_flat_state(nnx.merge_state(params, stats))
    }
    random = [(path, variable) for path, variable in nnx.to_flat_state(streams)]

    def apply(weights: Tree, state: Tree, inputs: Array, *, train: bool, key: Array | None) -> tuple[Array, Tree]:
        values = weights | state
        variables = [(path, kind(values[name])) for name, (path, kind) in named.items()]
        fresh = [(path, _seeded(path, variable, key)) for path, variable in random]
        net = nnx.merge(training if train else evaluating, nnx.from_flat_state(variables + fresh))
        outputs = net(inputs)
        after = nnx.to_flat_state(nnx.state(net, nnx.BatchStat))
        return outputs, {_join(path): variable[...] for path, variable in after}

    return Model(weights=_shapes(params), state=_shapes(stats), apply=apply)


def _seeded(path: tuple[Any, ...], variable: Any, key: Array | None) -> Any:
    """The variables of a random stream at its start: a key that depends on the path, and a count of 0."""
    if isinstance(variable, nnx.RngKey):
        own = jax.random.fold_in(jax.random.key(0) if key is None else key, zlib.crc32(_join(path).encode()))
        return variable.replace(jax.random.split(own, variable.shape) if variable.shape else own)
    return variable.replace(jax.numpy.zeros(variable.shape, variable.dtype))


def _shapes(state: Any) -> dict[str, tuple[int, ...]]:
    return {
        _join(path): tuple(variable.shape)
        for path, variable in sorted(nnx.to_flat_state(state), key=lambda item: _join(item[0]))
    }


def _join(path: tuple[Any, ...]) -> str:
    return "/".join(map(str, path))
