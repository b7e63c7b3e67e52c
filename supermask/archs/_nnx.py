"""Turns a Flax NNX module into a Model: shapes and a pure function."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx

from supermask.archs._call import EVALUATING, TRAINING, Flags, chosen, flags_of, values_of
from supermask.archs._norm import GhostNorm
from supermask.archs._pure import Initial
from supermask.archs._sequential import pass_flags
from supermask.errors import UsageError
from supermask.types import Array, Model, Tree

Make = Callable[[nnx.Rngs], nnx.Module]


class NotAModuleError(Exception):
    """What was made is no NNX module; `found` is what it is."""

    def __init__(self, found: Any) -> None:
        super().__init__(type(found).__name__)
        self.found = found


class _Parts(NamedTuple):
    """A module without its arrays: its graphs in training and in evaluation, and the paths and types of its leaves."""

    training: Any
    evaluating: Any
    weights: dict[str, Any]
    state: dict[str, Any]
    streams: list[Any]
    layers: dict[str, str]
    flags: Flags
    ghost: int


def from_module(make: Make, name: str, *, output: Any = None, traced: bool = True) -> Model:
    """Make a Model whose `weights` are a module's parameters and whose `state` is every other array in it.

    State is batch statistics, variables of other types, and arrays that are plain attributes. Random streams, such as
    those of dropout, belong to neither. In training, each is seeded from the step's key and its own path. In
    evaluation, the module is in `eval` mode and draws nothing.

    Args:
        make: makes the module.
        name: the network's, for messages.
        output: see `_call.chosen`.
        traced: whether `make` is traced, so that no weight is computed.

    Raises:
        NotAModuleError: `make` makes something else.
        UsageError: something in the module cannot be an array of a Model.
    """
    parts: list[_Parts] = []

    def taken(key: Array) -> dict[str, Any]:
        with nnx.use_eager_sharding(False):  # where parameters lie is ours to say; Flax would ask for a mesh
            part, leaves = _taken_apart(make(nnx.Rngs(key)), name)
        parts.append(part)
        return leaves

    leaves = jax.eval_shape(taken, jax.random.key(0)) if traced else taken(jax.random.key(0))
    whole = parts[0]

    def apply(weights: Tree, state: Tree, inputs: Array, *, train: bool, key: Array | None) -> tuple[Array, Tree]:
        filled = [(path, kind(weights[name])) for name, (path, kind) in whole.weights.items()]
        filled += [(path, kind(state[name])) for name, (path, kind) in whole.state.items()]
        filled += [(path, _seeded(path, variable, key)) for path, variable in whole.streams]
        net = nnx.merge(whole.training if train else whole.evaluating, nnx.from_flat_state(filled))
        found = net(inputs, **values_of(whole.flags, train, key))
        after = {_join(path): leaf for path, leaf in nnx.to_flat_state(nnx.state(net))}
        return chosen(found, output, name), {name: _array(after[name]) for name in whole.state}

    shapes = {name: tuple(leaf.shape) for name, leaf in leaves.items()}
    return Model(
        weights={name: shapes[name] for name in whole.weights},
        state={name: shapes[name] for name in whole.state},
        apply=apply,
        initial=Initial(taken, {name: leaves[name] for name in whole.state}, traced),
        layers=whole.layers,
        ghost=whole.ghost,
    )


def _taken_apart(module: nnx.Module, name: str) -> tuple[_Parts, dict[str, Any]]:
    """Return (the module without its arrays, its arrays by name)."""
    if not isinstance(module, nnx.Module):
        raise NotAModuleError(module)
    quiet: list[Any] = [part for _, part in nnx.iter_modules(module) if _prepared(part)]
    _set_mode(module, train=False)
    evaluating = nnx.split(module)[0]
    _set_mode(module, train=True)
    for part in quiet:
        part.deterministic = True
    split: Any = nnx.split(module, nnx.RngState, ...)
    training, streams, rest = split
    weights: dict[str, Any] = {}
    state: dict[str, Any] = {}
    leaves: dict[str, Any] = {}
    for path, leaf in sorted(nnx.to_flat_state(rest), key=lambda item: _join(item[0])):
        own, array = _join(path), _array(leaf)
        if own in leaves:
            raise UsageError(f"{name} has two arrays whose path is {own}: rename one of them")
        if not hasattr(array, "dtype") or jax.dtypes.issubdtype(array.dtype, jax.dtypes.extended):
            what = getattr(array, "dtype", type(array).__name__)
            raise UsageError(f"{own} of {name} holds {what}; it must be an array of numbers, or a stream of nnx.Rngs")
        leaves[own] = array
        group = weights if isinstance(leaf, nnx.Param) else state
        group[own] = (path, type(leaf) if isinstance(leaf, nnx.Variable) else _as_it_is)
    flags = flags_of(module.__call__, name)
    found = [(path, variable) for path, variable in nnx.to_flat_state(streams)]
    norms = [part for _, part in nnx.iter_modules(module) if isinstance(part, nnx.BatchNorm)]
    ghosts = {part.ghost if isinstance(part, GhostNorm) else 0 for part in norms}
    ghost = ghosts.pop() if len(ghosts) == 1 else 0
    return _Parts(training, evaluating, weights, state, found, _layers(module), flags, ghost), leaves


def _set_mode(module: nnx.Module, *, train: bool) -> None:
    """Set the mode in Flax's layers, and in flags of one's own, as in `self.training = True`."""
    word = "train" if train else "eval"
    mode = getattr(type(module), word)
    (mode if callable(mode) else getattr(nnx.Module, word))(module)  # a flag may have this name
    for _, part in nnx.iter_modules(module):
        for flag in TRAINING + EVALUATING:
            if isinstance(vars(part).get(flag), bool):
                setattr(part, flag, train if flag in TRAINING else not train)


def _prepared(part: nnx.Module) -> bool:
    """Make a part of a module ready for us; return whether it is dropout that stays off."""
    for key, value in list(vars(part).items()):
        # Flax takes arrays for data, but not while they are traced.
        if not nnx.is_data(value) and any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
            setattr(part, key, nnx.data(value))
    pass_flags(part)
    if isinstance(part, nnx.Dropout) and part.rngs is None:
        if part.deterministic:
            return True
        part.rngs = nnx.Rngs(0).dropout.fork()
    return False


def _layers(module: nnx.Module) -> dict[str, str]:
    """The type of the Flax layer that owns each parameter, by the parameter's name, and which state is a BatchStat."""
    kinds: dict[Any, str] = {}
    names: dict[str, str] = {}
    for path, node in nnx.iter_graph(module):
        if isinstance(node, nnx.Module):
            flax = (kind.__name__ for kind in type(node).__mro__ if kind.__module__.startswith("flax.nnx.nn."))
            kinds[path] = next(flax, "")
    for path, node in nnx.iter_graph(module):
        if isinstance(node, nnx.Param):
            names[_join(path)] = kinds.get(path[:-1], "")
        if isinstance(node, nnx.BatchStat):
            names[_join(path)] = "BatchStat"
    return names


def _seeded(path: tuple[Any, ...], variable: Any, key: Array | None) -> Any:
    """The variables of a random stream at its start: a key that depends on the path, and a count of 0."""
    if isinstance(variable, nnx.RngKey):
        own = jax.random.fold_in(jax.random.key(0) if key is None else key, zlib.crc32(_join(path).encode()))
        return variable.replace(jax.random.split(own, variable.shape) if variable.shape else own)
    return variable.replace(jax.numpy.zeros(variable.shape, variable.dtype))


def _array(leaf: Any) -> Any:
    return leaf[...] if isinstance(leaf, nnx.Variable) and hasattr(leaf.get_value(), "shape") else leaf


def _as_it_is(value: Any) -> Any:
    return value


def _join(path: tuple[Any, ...]) -> str:
    return "/".join(".".join(map(str, part)) if isinstance(part, tuple) else str(part) for part in path)
