"""Turns networks of other libraries, which are pure functions already, into Models."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import jax
import jax.numpy as jnp

from supermask.archs._call import RANDOM, Flags, chosen, flags_among, values_of
from supermask.errors import UsageError
from supermask.types import Array, Model, Tree

UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.UnexpectedTracerError,
)
"""Errors of code that needs values where a trace has none, or that keeps arrays where a trace cannot find them."""

Initialise = Callable[[Array], tuple[Any, Any]]
Apply = Callable[[Any, Any, Array, bool, Array | None], tuple[Any, Any]]


def from_functions(initialise: Initialise, apply: Apply, *, traced: bool = True) -> Model:
    """Make a Model of two functions.

    Args:
        initialise: (key) -> (parameters, state), two pytrees of arrays.
        apply: (parameters, state, inputs, train, key) -> (outputs, state); `key` is None in evaluation.
        traced: whether `initialise` is traced, so that no weight is computed.
    """
    trees = jax.eval_shape(initialise, jax.random.key(0)) if traced else initialise(jax.random.key(0))
    weights, state = (named(tree) for tree in trees)
    of_weights, of_state = (jax.tree.structure(tree) for tree in trees)

    def applied(w: Tree, s: Tree, inputs: Array, *, train: bool, key: Array | None) -> tuple[Array, Tree]:
        # In the order of the trees: the names are those of their leaves.
        parameters = jax.tree.unflatten(of_weights, [w[name] for name in weights])
        found, after = apply(parameters, jax.tree.unflatten(of_state, [s[name] for name in state]), inputs, train, key)
        return found, named(after)

    def leaves(key: Array) -> Tree:
        w, s = initialise(key)
        return named(w) | named(s)

    return Model(
        weights={name: tuple(weights[name].shape) for name in sorted(weights)},
        state={name: tuple(state[name].shape) for name in sorted(state)},
        apply=applied,
        initial=Initial(leaves, state, traced),
    )


@dataclass(frozen=True)
class Initial:
    """The function `Model.initial`, which also knows the state's shapes and dtypes without making the network again.

    Attributes:
        leaves: (key) -> all arrays of the network, by name.
        state: the arrays that are state, as they are or as `jax.ShapeDtypeStruct`.
        traced: whether `leaves` can be traced.
    """

    leaves: Callable[[Array], Tree]
    state: Tree
    traced: bool

    def __call__(self, seed: int, names: Collection[str]) -> tuple[Tree, Tree]:
        def some(key: Array) -> Tree:
            found = self.leaves(key)
            return {name: found[name] for name in (*names, *self.state)}

        if not names and not self.state:
            return {}, {}
        # Compiled, nothing is computed but what is returned.
        found = (jax.jit(some) if self.traced else some)(jax.random.key(seed))
        return {name: found[name] for name in names}, {name: found[name] for name in self.state}


def state_of(model: Model) -> Tree:
    """The shapes and dtypes of a network's state, as arrays or `jax.ShapeDtypeStruct`."""
    initial = model.initial
    if isinstance(initial, Initial):
        return initial.state
    if initial is not None and model.state:
        return jax.eval_shape(lambda: initial(0, ()))[1]
    return {name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in model.state.items()}


def named(tree: Any) -> Tree:
    """The leaves of a pytree by their '/'-joined paths."""
    found = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    if len(found) != len(jax.tree.leaves(tree)):
        raise UsageError("two arrays of the network have the same path: rename one of them")
    return found


def from_pair(pair: tuple[Any, Any], example: Any, name: str, *, output: Any = None, traced: bool = True) -> Model:
    """Make a Model of a pair (init, apply).

    `init(key)` or `init(key, inputs)` returns a pytree of parameters, and `apply(parameters, inputs)` returns outputs.
    Both may take `train`, `key` and the like by name. Between parameters and inputs, `apply` may take `state` and a key
    by place, as Haiku's does. With `state`, `init` returns (parameters, state) and `apply` (outputs, state).
    `init(key, input_shape)` returns (output shape, parameters), as stax's does.

    Raises:
        UsageError: one of them needs another argument, or does not return a pair.
    """
    init, apply = pair
    before, flags = _places(apply, name)
    given = list(inspect.signature(init).parameters.values())[1:]
    of_shape = bool(given) and given[0].name == "input_shape"
    with_inputs = of_shape or any(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in given)
    # Of required arguments the first are the inputs; Haiku's own `init` names them in a signature that it sets.
    init_flags = flags_among(given[1:], name) if with_inputs else {}

    def initialise(key: Array) -> tuple[Any, Any]:
        inputs = example.shape if of_shape else jnp.zeros(example.shape, example.dtype)
        found = init(key, *([inputs] if with_inputs else []), **values_of(init_flags, True, key))
        if of_shape:
            _, found = _two(found, f"init of {name}", "output shape, parameters")
        return _two(found, f"init of {name}", "parameters, state") if "state" in before else (found, {})

    def applied(w: Any, s: Any, inputs: Array, train: bool, key: Array | None) -> tuple[Any, Any]:
        random = values_of({place: place for place in before if place != "state"}, train, key)
        found = apply(w, *({**random, "state": s}[place] for place in before), inputs, **values_of(flags, train, key))
        if "state" in before:
            found, s = _two(found, f"apply of {name}", "outputs, state")
        return chosen(found, output, name), s

    return from_functions(initialise, applied, traced=traced)


def _places(apply: Callable[..., Any], name: str) -> tuple[list[str], Flags]:
    """Return (what `apply` takes by place between parameters and inputs, what it takes by name)."""
    parameters = list(inspect.signature(apply).parameters.values())[1:]
    before = list(takewhile(lambda p: p.name == "state" or p.name in RANDOM, parameters))
    rest = parameters[len(before) :]
    return [p.name for p in before], flags_among(rest[1:], name)


def _two(found: Any, what: str, names: str) -> tuple[Any, Any]:
    if isinstance(found, tuple) and len(found) == 2:
        return found[0], found[1]
    raise UsageError(f"{what} returns a {type(found).__name__}; it must return ({names})")
