"""Where the axes of a parameter go in a traced program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def moved_axes(eqn: Any, axes: tuple[bool, ...], before: tuple[int, ...], after: tuple[int, ...]) -> tuple[bool, ...]:
    """For each axis of a result, whether it runs along a parameter's entries.

    Args:
        eqn: the equation that makes the result.
        axes: the same of the operand.
        before, after: shapes of the operand and of the result.
    """
    name, params = eqn.primitive.name, eqn.params
    if name == "transpose":
        return tuple(axes[i] for i in params["permutation"])
    if name == "broadcast_in_dim":
        kept = {to: axes[i] and before[i] == after[to] for i, to in enumerate(params["broadcast_dimensions"])}
        return tuple(kept.get(i, False) for i in range(len(after)))
    if name == "tile" and len(before) == len(after):
        return tuple(flag and (size > 1 or size == to) for flag, size, to in zip(axes, before, after, strict=True))
    if name in ("squeeze", "reduce_sum", "reduce_max", "reduce_min", "reduce_prod"):
        gone = params["dimensions" if name == "squeeze" else "axes"]
        return tuple(flag for i, flag in enumerate(axes) if i not in gone)
    if name == "reshape" and before != after:
        return _reshaped(axes, before, after)
    if len(after) == len(axes):
        return axes
    return (any(axes),) * len(after)


def flattened_shape(eqn: Any, operands: Sequence[Any]) -> tuple[int, ...]:
    """The shape that the images of a result had before they were flattened; () if they have not been."""
    before, after = eqn.invars[0].aval, eqn.outvars[0].aval
    if eqn.primitive.name == "reshape" and len(before.shape) > len(after.shape) > 1:
        merged = before.shape[len(after.shape) - 1 :]
        return merged if before.shape[: len(after.shape) - 1] == after.shape[:-1] else ()
    found = {value.flattened for value in operands if value.data}
    shapes = [v.aval.shape for v, value in zip(eqn.invars, operands, strict=True) if value.data]
    kept = all(shape == after.shape for shape in shapes) and eqn.primitive.name != "dot_general"
    return found.pop() if kept and len(found) == 1 else ()


def _reshaped(axes: tuple[bool, ...], before: tuple[int, ...], after: tuple[int, ...]) -> tuple[bool, ...]:
    """Axes of a reshape: those that are merged or split together share what any of them had."""
    result, i, j = [], 0, 0
    while j < len(after):
        first, second, left, right = i, j, 1, 1
        while j < len(after) and (second == j or left != right):
            if left <= right and i < len(before):
                left, i = left * before[i], i + 1
            else:
                right, j = right * after[j], j + 1
        while i < len(before) and j == len(after):
            i += 1
        flag = any(axes[k] for k in [k for k in range(first, i) if before[k] > 1] or range(first, i))
        result += [flag and (after[k] > 1 or left == 1) for k in range(second, j)]
    return tuple(result)


def scan_counts(eqn: Any, body: Any) -> tuple[int, int]:
    """The numbers of operands of a scan that are constants, and that are carried.

    They are counted by their ranks, since versions of JAX name them in different ways: what is scanned over has one
    axis more outside than inside, among the operands as among the results.
    """

    def scanned(outside: Any, inside: Any) -> int:
        return sum(v.aval.ndim > w.aval.ndim for v, w in zip(outside, inside, strict=True))

    carried = len(body.outvars) - scanned(eqn.outvars, body.outvars)
    return len(body.invars) - carried - scanned(eqn.invars, body.invars), carried
