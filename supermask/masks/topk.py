"""The k largest of many values, exactly and without sorting them.

Non-negative floats have the same order as their bit patterns, so the search is for an int32 threshold, and counting the
values at or above a threshold is a single pass over memory. Bisection would need 31 passes. This needs about nine: a
sorted sample brackets the threshold, interpolation closes in on it, and the search ends at any threshold that exactly k
values reach. Every threshold is verified by counting, so the result does not depend on how it was found. Only arrays no
larger than a few samples are sorted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import add

import jax
import jax.numpy as jnp
from jax import lax

from supermask.types import Array

SAMPLE = 1024
_SLICES = 16
_HIGHEST = 2**31 - 1  # above the bits of every float32
_TOP = _HIGHEST - 1


@jax.jit
def top_k(values: Array, k: Array | int) -> Array:
    """Select the k largest of non-negative float32 `values` (any shape), as a bool array of the same shape.

    Ties go to the lower index. Exact for every input without NaN.

    Args:
        values: what to rank.
        k: from 1 to the number of values; an int or an int32 scalar.
    """
    return _largest_of(lax.bitcast_convert_type(values, jnp.int32), jnp.asarray(k, jnp.int32))


@jax.jit
def top_k_signed(values: Array, k: Array | int) -> Array:
    """`top_k` for float32 values of any sign."""
    k = jnp.asarray(k, jnp.int32)
    positive, size = values > 0, lax.bitcast_convert_type(jnp.abs(values), jnp.int32)
    # Only values on one side of zero need ranking. If there are enough positive ones, all others tie at the bottom;
    # if not, all positive ones tie at the top.
    enough = _count(positive) >= k
    return _largest_of(jnp.where(positive, jnp.where(enough, size, _TOP), jnp.where(enough, 0, _TOP - 1 - size)), k)


def _largest_of(bits: Array, k: Array) -> Array:
    """Select the k largest of int32 values from 0 to _TOP, as a bool array."""
    threshold, reached = (_sorted if bits.size <= 4 * SAMPLE else _close_in)(bits, k)
    return lax.cond(reached == k, lambda: bits >= threshold, lambda: _first_ties(bits, threshold, k))


def _count(chosen: Array) -> Array:
    """The number of true values, int32."""
    return jnp.sum(chosen, dtype=jnp.int32)


def _reaching(bits: Array, threshold: Array) -> Array:
    """How many values are at or above a threshold, int32.

    The values are taken in slices that are added to each other first. XLA's CPU backend sums into one vector register,
    so without them each addition waits for the one before; with them it is three times as fast.
    """
    flat, length = bits.reshape(-1), bits.size // _SLICES
    slices = [flat[i * length : (i + 1) * length] for i in range(_SLICES)]
    found = jnp.sum(reduce(add, [(part >= threshold).astype(jnp.int32) for part in slices]))
    return found + _count(flat[_SLICES * length :] >= threshold)


def _sorted(bits: Array, k: Array) -> tuple[Array, Array]:
    """The k-th largest value, and how many values reach it."""
    threshold = jnp.sort(bits.reshape(-1))[bits.size - k]
    return threshold, _reaching(bits, threshold)


def _close_in(bits: Array, k: Array) -> tuple[Array, Array]:
    """A threshold that exactly k values reach, or the k-th largest value if there is none; and how many reach it.

    The Illinois variant of regula falsi (Dowell & Jarratt 1971) on the count. Every fourth step is a bisection, which
    bounds the number of steps.
    """

    def unfinished(state: tuple[Array, ...]) -> Array:
        low, high, reached, *_ = state
        return (reached != k) & (high - low > 1)

    def halve_bracket(state: tuple[Array, ...]) -> tuple[Array, ...]:
        low, high, reached, above, below, side, step = state
        share = jnp.where(step % 4 == 3, jnp.float32(0.5), above / (above - below))
        width = (high - low).astype(jnp.float32)
        tried = jnp.clip(low + (width * share).astype(jnp.int32), low + 1, high - 1)
        count = _reaching(bits, tried)
        excess = (count - k).astype(jnp.float32) + 0.5
        enough = count >= k
        # If the same end stays twice, its weight is halved, so that the next step lands on the far side of the root.
        above, below = (
            jnp.where(enough, excess, jnp.where(side < 0, above / 2, above)),
            jnp.where(enough, jnp.where(side > 0, below / 2, below), excess),
        )
        low, high = jnp.where(enough, tried, low), jnp.where(enough, high, tried)
        side = jnp.where(enough, jnp.int32(1), jnp.int32(-1))
        return low, high, jnp.where(enough, count, reached), above, below, side, step + 1

    low, high, reached, beyond = _bracket(bits, k)
    above, below = (reached - k).astype(jnp.float32) + 0.5, (beyond - k).astype(jnp.float32) + 0.5
    state = (low, high, reached, above, below, jnp.int32(0), jnp.int32(0))
    low, _, reached, *_ = lax.while_loop(unfinished, halve_bracket, state)
    return low, reached


def _bracket(bits: Array, k: Array) -> tuple[Array, Array, Array, Array]:
    """(low, high, count(low), count(high)), where count(t) values reach t and count(low) >= k > count(high).

    The ends are order statistics of a sample, three standard deviations to either side of where the k-th largest value
    should be. If it is not between them, the bracket is the range below or above them.
    """
    n = bits.size
    stride = (n // SAMPLE - 1) | 1  # odd, so that rows whose width is a power of two are not sampled in one column
    sample = jnp.sort(lax.slice(bits.reshape(-1), (0,), (stride * (SAMPLE - 1) + 1,), (stride,)))
    share = k.astype(jnp.float32) / n
    spread = 3 * jnp.sqrt(SAMPLE * share * jnp.maximum(1 - share, 0)) + 1
    lower, upper = (jnp.ceil(share * SAMPLE + spread)).astype(jnp.int32), (share * SAMPLE - spread).astype(jnp.int32)
    low = jnp.where(lower > SAMPLE, 0, sample[SAMPLE - lower])
    high = jnp.where(upper < 1, _HIGHEST, sample[SAMPLE - upper] + 1)
    from_low, from_high = _reaching(bits, low), _reaching(bits, high)
    under, over = from_low < k, from_high >= k
    return (
        jnp.where(over, high, jnp.where(under, jnp.int32(0), low)),
        jnp.where(under, low, jnp.where(over, jnp.int32(_HIGHEST), high)),
        jnp.where(over, from_high, jnp.where(under, jnp.int32(n), from_low)),
        jnp.where(under, from_low, jnp.where(over, jnp.int32(0), from_high)),
    )


def _first_ties(bits: Array, threshold: Array, k: Array) -> Array:
    """Select all values above the threshold, and of those equal to it the first ones, up to k in all."""
    index = lax.iota(jnp.int32, bits.size).reshape(bits.shape)
    above, equal = bits > threshold, bits == threshold
    missing = k - _count(above)
    # The largest n for which the first n indices hold fewer ties than are missing; index n is then the last one needed.
    length = _largest(bits.size.bit_length(), lambda n: _count(equal & (index < n)) < missing)
    return above | (equal & (index <= length))


def _largest(bit_count: int, holds: Callable[[Array], Array]) -> Array:
    """The largest int of `bit_count` bits for which `holds` is true, by bisection.

    `holds` must be true up to that int and false beyond it.
    """

    def bit(i: Array, found: Array) -> Array:
        tried = found | (jnp.int32(1) << (bit_count - 1 - i))
        return jnp.where(holds(tried), tried, found)

    return lax.fori_loop(0, bit_count, bit, jnp.int32(0))
