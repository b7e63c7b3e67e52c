"""Runs one stage over micro-batches, one after the other, with a gradient that does the same."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from supermask.nn.flat import Values


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

        def one(total: Values, piece: Any) -> tuple[Values, Values]:
            read, found, slope = piece
            _, of_sums = jax.vjp(sums, found, read, whole)
            more, to_read, to_whole = of_sums(slopes[1])
            _, of_outputs = jax.vjp(outputs, read, whole)
            from_read, from_whole = of_outputs(_add(slope, more))
            return _add(total, _add(to_whole, from_whole)), _add(to_read, from_read)

        total, to_read = lax.scan(one, _zeros(whole), (read, found, slopes[0]))
        return to_read, _as(whole, total)

    run.defvjp(forward, backward)
    return run(read, whole)


def _add(a: Any, b: Any) -> Any:
    return jax.tree.map(lambda a, b: a + b.astype(a.dtype), a, b)


def _zeros(values: Any) -> Values:
    return [jnp.zeros(v.shape, jnp.promote_types(v.dtype, jnp.float32)) for v in values]


def _as(values: Any, totals: Values) -> Values:
    return [total.astype(v.dtype) for v, total in zip(values, totals, strict=True)]
