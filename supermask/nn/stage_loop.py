"""Runs one stage over micro-batches, one after the other, with a gradient that does the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from supermask.nn.flat import Values
from supermask.nn.fusion import in_vectors
from supermask.types import Array


def over_microbatches(outputs: Any, sums: Any, read: Values, whole: Values) -> tuple[Values, Values]:
    """Return outputs(read, whole) of all micro-batches, and sums(outputs, read, whole) added up over them.

    The gradient reads `outputs` again, so the convolution that ends a stage is not computed twice. What is added up is
    float32 at least.
    """

    @jax.custom_vjp
    def run(read: Values, whole: Values) -> tuple[Values, Values]:
        return forward(read, whole)[0]

    def forward(read: Values, whole: Values) -> tuple[tuple[Values, Values], Any]:
        def one(total: Values, piece: Values) -> tuple[Values, Values]:
            found = outputs(piece, whole)
            return _add(total, sums(found, piece, whole)), found

        first = [array[0] for array in read]
        shapes = jax.eval_shape(lambda piece: sums(outputs(piece, whole), piece, whole), first)
        total, found = lax.scan(one, _zeros(shapes), read)
        return (found, _as(shapes, total)), (read, whole, found)

    def backward(kept: Any, slopes: tuple[Values, Values]) -> tuple[Values, Values]:
        read, whole, found = kept

        def one(total: Values, piece: tuple[Values, Values], slope: Values) -> tuple[Values, Values]:
            read, found = piece
            _, of_sums = jax.vjp(sums, found, read, whole)
            more, to_read, to_whole = of_sums(slopes[1])
            _, of_outputs = jax.vjp(outputs, read, whole)
            from_read, from_whole = of_outputs([in_vectors(each) for each in _add(slope, more)])
            return _add(total, _add(to_whole, from_whole)), _add(to_read, from_read)

        total, to_read = _scan_over(one, _zeros(whole), (read, found), slopes[0])
        return to_read, _as(whole, total)

    run.defvjp(forward, backward)
    return run(read, whole)


def _scan_over(one: Callable[..., Any], total: Values, read: Any, over: Values) -> tuple[Values, Values]:
    """Return what `lax.scan` does of one(total, piece of `read`, piece of `over`), written over `over` where it fits.

    For outputs of its own, a scan begins with arrays of zeros, and to write these takes as long as to write the
    outputs.
    """
    count = len(jax.tree.leaves((read, over))[0])
    at = lambda i, arrays: jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, i, keepdims=False), arrays)  # noqa: E731
    made = jax.eval_shape(lambda: one(total, at(0, read), at(0, over)))[1]
    held, places = list(over), list[int]()
    for out in made:
        fits = [(a.shape[1:], a.dtype) == (out.shape, out.dtype) and k not in places for k, a in enumerate(over)]
        places.append(fits.index(True) if any(fits) else len(held))
        if not any(fits):
            held.append(jnp.zeros((count, *out.shape), out.dtype))

    def step(i: Array, carry: tuple[Values, Values]) -> tuple[Values, Values]:
        total, held = carry
        total, found = one(total, at(i, read), at(i, held[: len(over)]))
        held = list(held)
        for place, array in zip(places, found, strict=True):
            held[place] = lax.dynamic_update_index_in_dim(held[place], array, i, 0)
        return total, held

    total, held = lax.fori_loop(0, count, step, (total, held))
    return total, [held[place] for place in places]


def _add(a: Any, b: Any) -> Any:
    return jax.tree.map(lambda a, b: a + b.astype(a.dtype), a, b)


def _zeros(values: Any) -> Values:
    return [jnp.zeros(v.shape, jnp.promote_types(v.dtype, jnp.float32)) for v in values]


def _as(values: Any, totals: Values) -> Values:
    return [total.astype(v.dtype) for v, total in zip(values, totals, strict=True)]
