"""Runs the training pass of a network piece by piece, batch statistics included, so that a piece stays in the cache.

Batch norm needs sums over the whole batch. Between two such sums, every example is by itself. So the network is traced
and cut into stages that end with sums over the batch: a stage runs over all pieces of the batch, one after the other,
then come its sums, then the next stage. What later stages read of an example is kept; everything else is computed again
in the backward pass, except for the outputs of a stage, which the gradients of the sums need. The results are those of
the whole batch, up to the order of the sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from supermask.nn.batch_axis import MixesExamplesError, require_alike
from supermask.nn.flat import Values, flat_jaxpr, step
from supermask.nn.stage_loop import over_microbatches
from supermask.nn.stages import Plan, Stage
from supermask.nn.sums import summed
from supermask.types import Array, Model, Tree

Apply = Callable[..., Any]
_WEIGHT_BOUND = 16  # weights for each value of an example: 9 are better in pieces, 36 at once by measurement


def in_microbatches(apply: Apply, count: int, axis: str | None = None, shards: int = 1) -> Apply:
    """Return `Model.apply` in training mode, run in `count` pieces of the batch that it is given.

    Args:
        apply: (weights, state, inputs, *, train, key) -> (outputs, state).
        count: number of pieces; each holds 2 examples or more.
        axis: the mesh axis that the batch is spread over, if it is; `shards` is its length.

    Raises:
        MixesExamplesError: when the function is traced, see `Plan`.
    """

    def run(weights: Tree, state: Tree, inputs: Array, *, train: bool, key: Array | None) -> tuple[Array, Tree]:
        size = len(inputs) // count
        arguments, shard = (weights, state, inputs, key), len(inputs)
        cut, structure = _planned(apply, train, arguments, size, shard, shard * shards)
        pieces = inputs.reshape(count, size, *inputs.shape[1:])
        return jax.tree.unflatten(structure, cut(jax.tree.leaves((weights, state, pieces, key)), axis))

    return run


def can_split(model: Model, state: Tree, shard: Any, size: int, total: int) -> bool:
    """Whether the training pass of a model can be run in pieces of `size`, of a batch of `total` on all devices.

    Args:
        state: arrays or `jax.ShapeDtypeStruct`.
        shard: `jax.ShapeDtypeStruct` of what one device has of the batch.
    """
    weights = {name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in model.weights.items()}
    try:
        arguments = (weights, state, shard, jax.random.key(0))
        _planned(model.apply, True, arguments, size, shard.shape[0], total)
    except MixesExamplesError:
        return False
    return True


def _planned(
    apply: Apply, train: bool, arguments: tuple[Any, ...], size: int, shard: int, total: int
) -> tuple[_Run, Any]:
    """What runs `apply` on a shard of a batch of `total` in pieces of `size`, and the structure of its outputs."""
    leaves, structure = jax.tree.flatten(arguments)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    return _plan(apply, train, shapes, structure, (size, shard, total), bool(jax.config.read("jax_enable_x64")))


# A deep network is traced for seconds, to see whether it can be cut and then to cut it. The last argument only tells
# programs apart that were traced with other default types.
@lru_cache(maxsize=4)
def _plan(
    apply: Apply, train: bool, shapes: tuple[Any, ...], structure: Any, sizes: tuple[int, int, int], _x64: bool
) -> tuple[_Run, Any]:
    size, shard, total = sizes

    def function(weights: Tree, state: Tree, inputs: Array, key: Array | None) -> tuple[Array, Tree]:
        return apply(weights, state, inputs, train=train, key=key)

    weights, state, inputs, key = jax.tree.unflatten(structure, shapes)
    batched = jax.tree.leaves((*_all(False, weights, state), True, *_all(False, key)))
    random = jax.tree.leaves((*_all(False, weights, state), False, *_all(True, key)))
    whole, outputs = _traced(function, weights, state, inputs, key, size=total)

    plan = Plan(whole, batched, random, total)

    def program(size: int) -> _Program:
        closed = _traced(function, weights, state, inputs, key, size=size)[0]
        return _Program(Plan(closed, batched, random, size), plan, closed, whole)

    base = program(size)
    at_once = program(shard) if shard != size and any(map(base.is_weight_bound, base.plan.stages)) else base
    return _Run(base, at_once), outputs


def _all(value: bool, *trees: Any) -> list[Any]:
    return [jax.tree.map(lambda _: value, tree) for tree in trees]


def _traced(function: Callable[..., Any], *arguments: Any, size: int) -> tuple[ClosedJaxpr, Any]:
    weights, state, inputs, key = arguments
    return flat_jaxpr(function, weights, state, jax.ShapeDtypeStruct((size, *inputs.shape[1:]), inputs.dtype), key)


class _Program:
    """A traced function for one size of its pieces, and how it is cut.

    Numbers in it may depend on the size of the batch, such as the count that a mean divides by. So they are taken from
    the same program for the whole batch.

    Args:
        plan, of_whole: for a piece, and for the whole batch over all devices.
        piece, whole: the function for both.
    """

    def __init__(self, plan: Plan, of_whole: Plan, piece: ClosedJaxpr, whole: ClosedJaxpr) -> None:
        self.plan = plan
        require_alike(piece, whole, [v for v in plan.jaxpr.invars if plan.axis(v) is not None])
        pairs = list(zip(piece.jaxpr.eqns, whole.jaxpr.eqns, strict=True))
        made = [(v, w) for a, b in pairs for v, w in zip(a.outvars, b.outvars, strict=True)]
        if any(plan.shape(v, of_whole.examples) != _shape(w) or plan.axis(v) != of_whole.axis(w) for v, w in made):
            raise MixesExamplesError  # such as images that are normalised in groups
        for stage in plan.stages:
            if not all(_is_float(v) for v in (*stage.outputs, *stage.reads, *stage.sums)):
                raise MixesExamplesError  # what has no gradient would need one
        if any(plan.axis(atom) not in (None, 0) for atom in plan.jaxpr.outvars):
            raise MixesExamplesError
        self._atoms = {id(a): b.invars for a, b in pairs}
        self.results = list(zip(piece.jaxpr.outvars, whole.jaxpr.outvars, strict=True))
        if any(isinstance(a, Literal) != isinstance(b, Literal) for a, b in self.results):
            raise MixesExamplesError
        self.consts = dict(zip(piece.jaxpr.constvars, whole.consts, strict=True))

    def run(self, eqns: list[JaxprEqn], values: dict[Any, Any]) -> None:
        for eqn in eqns:
            pairs = zip(eqn.invars, self._atoms[id(eqn)], strict=True)
            step(eqn, values, [b.val if isinstance(a, Literal) else values[a] for a, b in pairs])

    def is_weight_bound(self, stage: Stage) -> bool:
        """Whether a stage reads far more weights than an example has values, so that reading them for each piece would
        take longer than what the cache saves; only if all it reads and puts out can be cut anew.
        """
        arrays = [*stage.reads, *stage.outputs]
        if any(self.plan.axis(v) != 0 for v in arrays):
            return False
        largest = max(map(_size, arrays), default=0) / self.plan.examples
        return sum(map(_size, stage.whole)) > _WEIGHT_BOUND * largest

    def stage(self, stage: Stage, read: Values, whole: Values) -> tuple[Values, Values]:
        """Return the outputs of a stage, and its sums, from what it reads, in the stage's order."""
        moves = [v in self.plan.moving and _is_float(v) for v in stage.whole]
        still = {v: value for v, value, moving in zip(stage.whole, whole, moves, strict=True) if not moving}
        moving = [v for v, moving in zip(stage.whole, moves, strict=True) if moving]

        def given(read: Values, whole: Values) -> dict[Any, Any]:
            return {**still, **dict(zip(stage.reads, read, strict=True)), **dict(zip(moving, whole, strict=True))}

        def outputs(read: Values, whole: Values) -> Values:
            known = given(read, whole)
            self.run(stage.forward, known)
            return [known[v] for v in stage.outputs]

        def sums(found: Values, read: Values, whole: Values) -> Values:
            known = given(read, whole) | dict(zip(stage.outputs, found, strict=True))
            self.run(stage.summing, known)
            return [known[v] for v in stage.sums]

        return over_microbatches(
            outputs, sums, read, [value for value, moving in zip(whole, moves, strict=True) if moving]
        )


class _Run:
    """Runs a function stage by stage: in pieces, or heavy stages on all that the device has at once."""

    def __init__(self, base: _Program, at_once: _Program) -> None:
        self.base, self.at_once = base, at_once

    def __call__(self, arguments: Values, axis: str | None) -> Values:
        """Arrays of examples have an axis of pieces in front, in the arguments and in `values`."""
        plan = self.base.plan
        values: dict[Any, Any] = {**self.base.consts, **dict(zip(plan.jaxpr.invars, arguments, strict=True))}
        for number, stage in enumerate(plan.stages):
            self._plain(values, number)
            read, whole = ([values[v] for v in part] for part in (stage.reads, stage.whole))
            if self.base.is_weight_bound(stage):
                read = [array.reshape(1, -1, *array.shape[2:]) for array in read]
                outputs, sums = self.at_once.stage(self.at_once.plan.stages[number], read, whole)
                outputs = [a.reshape(-1, *_shape(v)) for v, a in zip(stage.outputs, outputs, strict=True)]
            else:
                outputs, sums = self.base.stage(stage, read, whole)
            if axis is not None and sums:
                sums = summed(sums, axis)
            values.update(zip((*stage.outputs, *stage.sums), (*outputs, *sums), strict=True))
        self._plain(values, len(plan.stages))
        return [self._output(atom, whole, values) for atom, whole in self.base.results]

    def _output(self, atom: Any, whole: Any, values: dict[Any, Any]) -> Array:
        if self.base.plan.axis(atom) is None:
            return whole.val if isinstance(atom, Literal) else values[atom]
        return values[atom].reshape(-1, *values[atom].shape[2:])

    def _plain(self, values: dict[Any, Any], number: int) -> None:
        """Evaluate what holds no examples and has become known before a stage."""
        self.base.run([eqn for needed, eqn in self.base.plan.plain if needed == number], values)


def _is_float(var: Any) -> bool:
    return jnp.issubdtype(var.aval.dtype, jnp.floating)


def _shape(var: Any) -> tuple[int, ...]:
    return var.aval.shape


def _size(var: Any) -> int:
    return math.prod(_shape(var))
