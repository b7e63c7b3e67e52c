"""What a network does with its parameters, read from its traced program.

The name and the rank of a parameter do not tell what it is: a bias of an attention layer has two dimensions, a kernel
of stacked layers three. What is contracted with data is a kernel, wherever it comes from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

from supermask.archs._axes import flattened_shape, moved_axes, scan_counts
from supermask.types import Array, Shapes, Tree


class Use(NamedTuple):
    """A role of `weights.parameters.ROLES`; of a kernel, (fan-in, fan-out) and, if it sees images that have been
    flattened, the shape that they had, channels last."""

    role: str
    fans: tuple[float, float] = (0, 0)
    flattened: tuple[int, ...] = ()


class Traced(NamedTuple):
    """What tracing an application found.

    Attributes:
        uses: by parameter.
        outputs: `jax.ShapeDtypeStruct` of the outputs.
        changes: names of the state that an application in training may change.
        order: names of the parameters that are used, in the order in which they first meet data.
    """

    uses: dict[str, Use]
    outputs: Any
    changes: frozenset[str]
    order: tuple[str, ...]


class _Value(NamedTuple):
    """What is known of an intermediate value.

    Attributes:
        data: whether it depends on the inputs.
        sources: the parameters that it is made of; for each axis, whether it runs along the parameter's entries, and
            is not a broadcast of them. Not kept once data is involved.
        flattened: of data whose last axis is an image that was flattened, its shape before.
    """

    data: bool = False
    sources: dict[str, tuple[bool, ...]] = {}  # noqa: RUF012 - never changed
    flattened: tuple[int, ...] = ()


def trace(apply: Callable[..., tuple[Array, Tree]], weights: Shapes, state: Tree, inputs: Any) -> Traced:
    """Trace a training application on inputs like these.

    Args:
        apply: see `types.Model`.
        weights: shapes of the parameters.
        state: arrays or `jax.ShapeDtypeStruct`.
        inputs: `jax.ShapeDtypeStruct` of a batch.
    """
    structs = {name: jax.ShapeDtypeStruct(weights[name], "float32") for name in sorted(weights)}
    state = {name: state[name] for name in sorted(state)}

    def training(w: Tree, s: Tree, x: Array) -> tuple[Array, Tree]:
        return apply(w, s, x, train=True, key=jax.random.key(0))

    closed, (outputs, after) = jax.make_jaxpr(training, return_shape=True)(structs, state, inputs)
    given, jaxpr = [*structs, *state], closed.jaxpr
    found = _Reader(inputs.shape[0])
    known = [_Value(sources={name: (True,) * len(structs[name].shape)}) for name in structs]
    known += [_Value()] * len(state) + [_Value(data=True)] * (len(jaxpr.invars) - len(given))
    found.read(jaxpr, known)
    before = dict(zip(given, jaxpr.invars, strict=False))
    ends = jaxpr.outvars[len(jaxpr.outvars) - len(after) :]
    changes = frozenset(name for name, end in zip(sorted(after), ends, strict=True) if before.get(name) is not end)
    return Traced({name: found.use_of(name) for name in weights}, outputs, changes, tuple(found.uses))


_ELEMENTWISE = {"add": "bias", "add_any": "bias", "sub": "bias", "mul": "scale", "div": "scale"}
_SAME_AXES = ("convert_element_type", "copy", "copy_p", "reduce_precision", "stop_gradient", "optimization_barrier")


class _Reader:
    """Follows parameters through a program until they meet data.

    Attributes:
        uses: all uses of each parameter, in the order in which they are first used.
    """

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self.uses: dict[str, list[Use]] = {}
        self._shifted: set[str] = set()

    def use_of(self, name: str) -> Use:
        """The use that decides: as a kernel if there is any, with the largest fans; then as an embedding; the first."""
        uses = self.uses.get(name, [])
        kernels = [use.fans for use in uses if use.role == "kernel"]
        if kernels:
            flattened = next((use.flattened for use in uses if use.flattened), ())
            return Use("kernel", (max(f[0] for f in kernels), max(f[1] for f in kernels)), flattened)
        return next((use for use in uses if use.role == "embedding"), uses[0] if uses else Use("unused"))

    def read(self, jaxpr: Any, given: Sequence[_Value], constants: Sequence[_Value] = ()) -> list[_Value]:
        """Return what is known of the outputs of a program, from what is known of its inputs."""
        known = dict(zip(jaxpr.constvars, constants or [_Value()] * len(jaxpr.constvars), strict=True))
        known |= dict(zip(jaxpr.invars, given, strict=True))
        for eqn in jaxpr.eqns:
            operands = [_Value() if isinstance(v, core.Literal) else known[v] for v in eqn.invars]
            known |= dict(zip(eqn.outvars, self._results(eqn, operands), strict=True))
        return [_Value() if isinstance(v, core.Literal) else known[v] for v in jaxpr.outvars]

    def _results(self, eqn: Any, operands: list[_Value]) -> list[_Value]:
        if not any(value.data or value.sources for value in operands):
            return [_Value()] * len(eqn.outvars)
        name = eqn.primitive.name
        if name == "scan":
            return self._scan(eqn, operands)
        if name == "while":
            return self._while(eqn.params, operands)
        if name == "cond":
            outcomes = [self.read(_open(branch), operands[1:]) for branch in eqn.params["branches"]]
            merged = [_merged(values) for values in zip(*outcomes, strict=True)]
            return [_Value(data=True)] * len(merged) if operands[0].data else merged
        inner = next((p for p in eqn.params.values() if len(getattr(_open(p), "invars", ())) == len(operands)), None)
        if inner is not None and hasattr(_open(inner), "eqns"):
            return self.read(_open(inner), operands)
        operands = self._with_spread(eqn, operands)
        if any(value.data for value in operands):
            self._meets_data(eqn, operands)
            return [_Value(data=True, flattened=flattened_shape(eqn, operands))] * len(eqn.outvars)
        if name in ("add", "sub"):
            self._shifted |= {parameter for value in operands for parameter in value.sources}
        return [_Value(sources=_moved(eqn, operands, out.aval.shape)) for out in eqn.outvars]

    def _with_spread(self, eqn: Any, operands: list[_Value]) -> list[_Value]:
        """The operands of a product, where what was spread over the batch, such as a learned query, counts as data."""
        if eqn.primitive.name not in ("dot_general", "conv_general_dilated") or any(v.data for v in operands):
            return operands
        shapes = [variable.aval.shape for variable in eqn.invars]
        spread = [bool(s) and s[0] == self._batch for s in shapes]
        spread = [s and not any(axes[0] for axes in v.sources.values()) for s, v in zip(spread, operands, strict=True)]
        if sum(spread) != 1:
            return operands
        for parameter in operands[spread.index(True)].sources:
            self.uses.setdefault(parameter, []).append(Use("other"))
        return [_Value(data=True) if s else value for s, value in zip(spread, operands, strict=True)]

    def _meets_data(self, eqn: Any, operands: list[_Value]) -> None:
        """Record the use of every parameter among the operands, at least one of which is data."""
        name = eqn.primitive.name
        for place, value in enumerate(operands):
            for parameter, axes in value.sources.items():
                shape = eqn.invars[place].aval.shape
                if name == "dot_general":
                    use = _contraction(eqn.params["dimension_numbers"], place, shape, axes)
                    use = use._replace(flattened=operands[1 - place].flattened)
                elif name == "conv_general_dilated" and place == 1:
                    use = _convolution(eqn.params, shape)
                elif name in ("gather", "dynamic_slice") and place == 0:
                    use = Use("embedding")
                else:
                    role = _ELEMENTWISE.get(name, "other")
                    # The factor is not the parameter's own value if something was added to it, as in 1 + scale.
                    use = Use("other" if role == "scale" and parameter in self._shifted else role)
                self.uses.setdefault(parameter, []).append(use)

    def _scan(self, eqn: Any, operands: list[_Value]) -> list[_Value]:
        """A loop over the first axis: layers that are stacked, or steps over a sequence."""
        body = _open(eqn.params["jaxpr"])
        consts, carried = scan_counts(eqn, body)
        fixed, carry, stacked = operands[:consts], operands[consts : consts + carried], operands[consts + carried :]
        slices = [_Value(v.data, {name: axes[1:] for name, axes in v.sources.items()}) for v in stacked]
        for _ in range(len(carry) + 1):
            ends = self.read(body, [*fixed, *carry, *slices])
            after = [_merged(pair) for pair in zip(carry, ends[:carried], strict=True)]
            if after == carry:
                break
            carry = after
        outputs = [_Value(v.data, {name: (True, *axes) for name, axes in v.sources.items()}) for v in ends[carried:]]
        return [*carry, *outputs]

    def _while(self, params: Any, operands: list[_Value]) -> list[_Value]:
        first = params["cond_nconsts"]
        consts = params["body_nconsts"]
        fixed, carry = operands[first : first + consts], operands[first + consts :]
        for _ in range(len(carry) + 1):
            ends = self.read(_open(params["body_jaxpr"]), [*fixed, *carry])
            after = [_merged(pair) for pair in zip(carry, ends, strict=True)]
            if after == carry:
                break
            carry = after
        return carry


def _open(jaxpr: Any) -> Any:
    """The program itself, of one that may be closed over its constants."""
    return getattr(jaxpr, "jaxpr", jaxpr)


def _merged(values: Iterable[_Value]) -> _Value:
    """What is known of a value that is one or the other."""
    values = list(values)
    if any(value.data for value in values):
        return _Value(data=True)
    sources: dict[str, tuple[bool, ...]] = {}
    for value in values:
        for name, axes in value.sources.items():
            old = sources.get(name, axes)
            sources[name] = tuple(a or b for a, b in zip(old, axes, strict=True))
    return _Value(sources=sources)


def _contraction(numbers: Any, place: int, shape: tuple[int, ...], axes: tuple[bool, ...]) -> Use:
    """A matrix product: the fan-in is what is contracted, the fan-out what is left; batch dimensions are in neither."""
    contracted, batched = numbers[0][place], numbers[1][place]
    fan_in = math.prod(shape[i] for i in contracted if axes[i])
    if not any(axes[i] for i in contracted):
        return Use("scale")
    free = [i for i in range(len(shape)) if axes[i] and i not in contracted and i not in batched]
    return Use("kernel", (fan_in, math.prod(shape[i] for i in free)))


def _convolution(params: Any, shape: tuple[int, ...]) -> Use:
    """A convolution. With dilated inputs, as in a transposed one, an output meets only a part of the kernel."""
    out, channels, *spatial = params["dimension_numbers"].rhs_spec
    field = math.prod(shape[i] for i in spatial)
    fan_in = shape[channels] * field / math.prod(params["lhs_dilation"])
    return Use("kernel", (int(fan_in) if fan_in.is_integer() else fan_in, shape[out] * field))


def _moved(eqn: Any, operands: list[_Value], shape: tuple[int, ...]) -> dict[str, tuple[bool, ...]]:
    """The sources of a result that no data has met: where the axes of its operands' sources have gone."""
    sources: dict[str, tuple[bool, ...]] = {}
    for place, value in enumerate(operands):
        before = getattr(eqn.invars[place].aval, "shape", ())
        for name, axes in value.sources.items():
            moved = moved_axes(eqn, axes, before, shape)
            sources[name] = tuple(a or b for a, b in zip(sources.get(name, moved), moved, strict=True))
    return sources
