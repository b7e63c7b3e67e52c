"""A matrix applied along several axes, as a dense layer is to tokens, with a gradient that suits XLA's CPU backend.

The gradient of a kernel by which (batch, tokens, features) is multiplied is a sum over two axes. For it XLA stores a
transposed copy of the cotangent, and computes what leads to it, such as the gradient of a GELU, element by element
across the order of memory, which takes longer than the product itself. With the two axes merged, it is a product of
matrices, which needs no copy. Merged in the forward pass as well, they would hide where the examples lie (`stages`).
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import JaxprEqn
from jax.extend.core.primitives import dot_general_p

Axes = tuple[int, ...]
Contracted = tuple[Axes, Axes]


def is_along_axes(eqn: JaxprEqn) -> bool:
    """Whether `product` can take this equation's place and does something else, as a factor has three axes or more.

    The axes that are summed over are the first or the last of each factor; there are no batch axes.
    """
    if eqn.primitive is not dot_general_p or eqn.params.get("out_sharding") is not None:
        return False
    contracted, batch = eqn.params["dimension_numbers"]
    avals: list[Any] = [atom.aval for atom in eqn.invars]
    others = [aval.ndim - len(axes) for aval, axes in zip(avals, contracted, strict=True)]
    return (
        batch == ((), ())
        and contracted != ((), ())
        and min(others) >= 1
        and max(others) >= 2
        and all(_is_at_an_end(axes, aval.ndim) for axes, aval in zip(_in_order(contracted), avals, strict=True))
        and all(aval.size and jnp.issubdtype(aval.dtype, jnp.floating) for aval in avals)
    )


def _in_order(contracted: Contracted) -> Contracted:
    """The same pairs of axes by their place in the left factor: an einsum may name the last first."""
    left, right = zip(*sorted(zip(*contracted, strict=True)), strict=True)
    return left, right


def _is_at_an_end(axes: Axes, rank: int) -> bool:
    return axes in (tuple(range(len(axes))), tuple(range(rank - len(axes), rank)))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def product(a: Array, b: Array, contracted: Contracted, options: tuple[tuple[str, Any], ...] = ()) -> Array:
    """`lax.dot_general` of two arrays, without batch axes, see `is_along_axes`.

    Args:
        a: the left factor.
        b: the right factor.
        contracted: the axes of each that are summed over.
        options: `precision` and `preferred_element_type`, as pairs.
    """
    return lax.dot_general(a, b, (contracted, ((), ())), **dict(options))


def _forward(a: Array, b: Array, contracted: Contracted, options: Any) -> tuple[Array, tuple[Array, Array]]:
    return product(a, b, contracted, options), (a, b)


def _backward(contracted: Contracted, options: Any, factors: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    def of_matrices(a: Array, b: Array) -> Array:
        (left, i), (right, j) = map(_as_matrix, (a, b), _in_order(contracted))
        return lax.dot_general(left, right, (((i,), (j,)), ((), ())), **dict(options))

    out, gradients = jax.vjp(of_matrices, *factors)
    of_a, of_b = gradients(g.reshape(out.shape))
    return of_a, of_b


product.defvjp(_forward, _backward)


def _as_matrix(a: Array, summed: Axes) -> tuple[Array, int]:
    """A factor with the axes that are summed over merged, and the others too, and which of the two is the first."""
    count = len(summed)
    if summed == tuple(range(count)):
        return a.reshape(math.prod(a.shape[:count]), -1), 0
    return a.reshape(-1, math.prod(a.shape[-count:])), 1
