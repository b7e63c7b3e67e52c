"""Follows the axis of examples through a traced network.

An operation may treat every example by itself, or sum over them, as batch norm does. With any other, such as a product
of two examples, a batch cannot be split.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn, Literal, jaxprs_in_params

SUM = "sum"
"""In place of an axis: the operation sums over the examples."""

Axis = Any
"""Of an array: the axis of examples, an int; SUM; or None if it holds none."""


CONSTANT = "constant"  # in place of an axis, inside of a call: the same number everywhere


class MixesExamplesError(Exception):
    """An operation mixes examples in a way that is neither of the two."""


ELEMENTWISE = frozenset(
    (
        *("abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil"),
        *("clamp", "convert_element_type", "copy", "cos", "cosh", "div", "eq", "erf", "erf_inv", "erfc"),
        *("exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le", "lgamma", "log", "log1p"),
        *("logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "optimization_barrier", "or", "pow"),
        *("reduce_precision", "rem", "round", "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt", "square"),
        *("stop_gradient", "sub", "tan", "tanh", "xor"),
    )
)
REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "argmax", "argmin")
WINDOWS = ("reduce_window", "reduce_window_sum", "reduce_window_max", "reduce_window_min")
CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "cond")
OURS = Path(__file__).parent  # gradients of these functions treat every example by itself


def of_outputs(eqn: JaxprEqn, axes: Sequence[Axis], examples: int) -> Axis:
    """Return the axis of the outputs of an equation, of which all have the same, given those of its inputs.

    Args:
        axes: of the inputs. The length of such an axis is a multiple of `examples`: what belongs to an example may lie
            along it, one example after the other.
        examples: number of examples, 2 or more.

    Raises:
        MixesExamplesError: the equation mixes examples.
    """
    name, params = eqn.primitive.name, eqn.params
    shapes = [getattr(atom.aval, "shape", ()) for atom in eqn.invars]
    given = [(shape, axis) for shape, axis in zip(shapes, axes, strict=True) if axis is not None]
    if not given:
        return None
    shape, axis = given[0]
    if name in ELEMENTWISE:
        _require(len(eqn.outvars) == 1)
        _require(all(other == axis and sizes[axis] == shape[axis] for sizes, other in given))
        return axis
    if name == "concatenate":
        _require(len(given) == len(shapes) and all(other == axis for _, other in given) and params["dimension"] != axis)
        return axis
    if name in ("dot_general", "conv_general_dilated"):
        return _of_product(name, params, shapes, axes)
    if name in CALLS:
        return _of_call(eqn, list(jaxprs_in_params(params)), axes, examples)
    _require(len(given) == 1 and axes[0] is not None)
    out = getattr(eqn.outvars[0].aval, "shape", ())
    if name in REDUCTIONS:
        if axis in params["axes"]:
            _require(name == "reduce_sum")
            return SUM
        return axis - sum(other < axis for other in params["axes"])
    if name in WINDOWS:
        _require(all(params[key][axis] == one for key, one in _STILL if key in params))
        return axis
    if name in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"):
        _require(params["axis"] != axis)
        return axis
    if name == "reshape":
        return _reshaped(shape, axis, out, examples)
    _require(name in _RULES)
    return _RULES[name](params, shape, axis, out)


_STILL: tuple[tuple[str, Any], ...] = (
    *(("window_dimensions", 1), ("window_strides", 1), ("padding", (0, 0))),
    *(("base_dilation", 1), ("window_dilation", 1)),
)


def _require(holds: bool) -> None:
    if not holds:
        raise MixesExamplesError


def _reshaped(shape: tuple[int, ...], axis: int, out: tuple[int, ...], examples: int) -> int:
    """The axis that begins where the old one began, and holds whole examples."""
    before = math.prod(shape[:axis])
    places = [place for place in range(len(out)) if math.prod(out[:place]) == before and out[place] != 1]
    _require(len(places) == 1 and out[places[0]] % examples == 0)
    return places[0]


def _slice(params: Any, shape: tuple[int, ...], axis: int, out: tuple[int, ...]) -> int:
    _require(out[axis] == shape[axis])
    return axis


def _broadcast(params: Any, shape: tuple[int, ...], axis: int, out: tuple[int, ...]) -> int:
    place = params["broadcast_dimensions"][axis]
    _require(out[place] == shape[axis])
    return place


def _pad(params: Any, shape: tuple[int, ...], axis: int, out: tuple[int, ...]) -> int:
    _require(tuple(params["padding_config"][axis]) == (0, 0, 0))
    return axis


def _rev(params: Any, shape: tuple[int, ...], axis: int, out: tuple[int, ...]) -> int:
    _require(axis not in params["dimensions"])
    return axis


def _split(params: Any, shape: tuple[int, ...], axis: int, out: tuple[int, ...]) -> int:
    _require(params["axis"] != axis)
    return axis


_RULES = {
    "slice": _slice,
    "broadcast_in_dim": _broadcast,
    "pad": _pad,
    "rev": _rev,
    "split": _split,
    "transpose": lambda params, shape, axis, out: params["permutation"].index(axis),
    "squeeze": lambda params, shape, axis, out: axis - sum(other < axis for other in params["dimensions"]),
}


def _of_product(name: str, params: Any, shapes: list[Any], axes: Sequence[Axis]) -> Axis:
    left, right = axes
    if name == "conv_general_dilated":
        numbers = params["dimension_numbers"]
        _require(right is None and left == numbers.lhs_spec[0] and params["batch_group_count"] == 1)
        return numbers.out_spec[0]
    ((left_sum, right_sum), (left_batch, right_batch)) = params["dimension_numbers"]
    if left is not None and right is not None:
        pairs = [*zip(left_batch, right_batch, strict=True)]
        if (left, right) in pairs:
            return pairs.index((left, right))
        _require((left, right) in [*zip(left_sum, right_sum, strict=True)])
        return SUM
    own, summed, batch, shape = (
        (left, left_sum, left_batch, shapes[0]) if left is not None else (right, right_sum, right_batch, shapes[1])
    )
    _require(own not in summed and own not in batch)
    free = [axis for axis in range(len(shape)) if axis not in summed and axis not in batch]
    ahead = 0 if left is not None else len(shapes[0]) - len(left_sum) - len(left_batch)
    return len(batch) + ahead + free.index(own)


def _of_call(eqn: JaxprEqn, inner: list[Any], axes: Sequence[Axis], examples: int) -> Axis:
    """A call whose Jaxprs all treat every example by itself, and whose outputs all have the same axis.

    A gradient of a user's own may mix examples, so only our own are known not to.
    """
    given = axes
    if eqn.primitive.name == "cond":
        _require(axes[0] is None)
        given = axes[1:]
    if eqn.primitive.name == "custom_vjp_call":
        _require(all(OURS in Path(str(_plain(jaxpr).debug_info.func_filename)).parents for jaxpr in inner))
    found = set().union(*(_of_jaxpr(jaxpr, given, examples) for jaxpr in inner)) - {CONSTANT}
    _require(len(found) == 1 and None not in found)
    return found.pop()


def _plain(jaxpr: Any) -> Any:
    return getattr(jaxpr, "jaxpr", jaxpr)


def _of_jaxpr(jaxpr: Any, axes: Sequence[Axis], examples: int) -> set[Axis]:
    jaxpr = _plain(jaxpr)
    _require(len(jaxpr.invars) == len(axes))
    known: dict[Any, Axis] = dict(zip(jaxpr.invars, axes, strict=True))
    read = lambda atom: CONSTANT if isinstance(atom, Literal) else known.get(atom)  # noqa: E731
    for eqn in jaxpr.eqns:
        seen = [read(atom) for atom in eqn.invars]
        if set(seen) == {CONSTANT} and eqn.primitive.name == "broadcast_in_dim":  # one number, however many there are
            known.update(dict.fromkeys(eqn.outvars, CONSTANT))
            continue
        found = of_outputs(eqn, [None if axis == CONSTANT else axis for axis in seen], examples)
        _require(found != SUM)
        known.update(dict.fromkeys(eqn.outvars, found))
    return {read(atom) for atom in jaxpr.outvars}


def require_alike(part: Any, full: Any, dependent: Collection[Any], *, inside: bool = False) -> None:
    """Require that two Jaxprs of one function, for batches of two sizes, differ in no more than the sizes of examples.

    What is inside of a call runs with the numbers and shapes of its own size, so these must be the same there.

    Args:
        dependent: inputs of `part` that hold examples.

    Raises:
        MixesExamplesError: they differ in more.
    """
    part, full = _plain(part), _plain(full)
    _require(len(part.eqns) == len(full.eqns) and len(part.constvars) == len(full.constvars))
    _require(all(_shape(a) == _shape(b) for a, b in zip(part.constvars, full.constvars, strict=True)))
    known, repeated = set(dependent), set[Any]()
    for a, b in zip(part.eqns, full.eqns, strict=True):
        _require(a.primitive is b.primitive and len(a.invars) == len(b.invars))
        for one, other in zip(a.invars, b.invars, strict=True):
            _require(isinstance(one, Literal) == isinstance(other, Literal))
            _require(not (inside and isinstance(one, Literal)) or bool(np.array_equal(one.val, other.val)))
        holds = [not isinstance(atom, Literal) and atom in known for atom in a.invars]
        if any(holds):
            known.update(a.outvars)
        elif inside and _repeats(a, b, repeated):  # the same for each example, however many there are
            repeated.update(a.outvars)
        else:  # no arrays for each example that come from none, such as random numbers
            _require(all(_shape(v) == _shape(w) for v, w in zip(a.outvars, b.outvars, strict=True)))
        for one, other in zip(jaxprs_in_params(a.params), jaxprs_in_params(b.params), strict=True):
            given = holds[len(holds) - len(_plain(one).invars) :]
            inputs = [var for var, is_held in zip(_plain(one).invars, given, strict=True) if is_held]
            require_alike(one, other, inputs, inside=True)


def _repeats(part: JaxprEqn, full: JaxprEqn, repeated: Collection[Any]) -> bool:
    """Whether an equation repeats an array along a new axis, or computes with such arrays element by element."""
    if part.primitive.name == "broadcast_in_dim":
        return _shape(part.invars[0]) == _shape(full.invars[0])
    inputs = [atom for atom in part.invars if not isinstance(atom, Literal)]
    return part.primitive.name in ELEMENTWISE and bool(inputs) and all(atom in repeated for atom in inputs)


def _shape(atom: Any) -> tuple[int, ...]:
    return atom.aval.shape
