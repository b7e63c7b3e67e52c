"""Traces a function to a flat Jaxpr, without calls of jitted functions in it, and evaluates such a Jaxpr."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from supermask.types import Array

Values = list[Array]
_JITTED = ("jit", "pjit", "closed_call")


def flat_jaxpr(function: Callable[..., Any], *arguments: Any) -> tuple[ClosedJaxpr, Any]:
    """Return the Jaxpr of a function of trees of arrays or of `jax.ShapeDtypeStruct`, and its outputs' structure."""
    closed, out = jax.make_jaxpr(function, return_shape=True)(*arguments)
    flat = lambda *args: evaluate(closed.jaxpr, closed.consts, args)  # noqa: E731
    return jax.make_jaxpr(flat)(*jax.tree.leaves(arguments)), jax.tree.structure(out)


def evaluate(jaxpr: Any, consts: Sequence[Array], args: Sequence[Array]) -> Values:
    """Evaluate a Jaxpr, calls of jitted functions included."""
    values: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
    for eqn in jaxpr.eqns:
        step(eqn, values, [a.val if isinstance(a, Literal) else values[a] for a in eqn.invars])
    return [a.val if isinstance(a, Literal) else values[a] for a in jaxpr.outvars]


def step(eqn: JaxprEqn, values: dict[Any, Any], args: Values) -> None:
    """Put the outputs of an equation among the values."""
    with eqn.ctx.manager:
        if eqn.primitive.name in _JITTED:
            inner = eqn.params["jaxpr" if "jaxpr" in eqn.params else "call_jaxpr"]
            found: Sequence[Array] = evaluate(inner.jaxpr, inner.consts, args)
        else:
            found = bind(eqn, args, eqn.params)
    values.update(zip(eqn.outvars, found, strict=True))


def bind(eqn: JaxprEqn, args: Sequence[Array], params: Mapping[str, Any]) -> Sequence[Array]:
    """Return the outputs of an equation's primitive, with these parameters."""
    outputs = eqn.primitive.bind(*args, **eqn.primitive.get_bind_params(params))
    return outputs if eqn.primitive.multiple_results else [outputs]
