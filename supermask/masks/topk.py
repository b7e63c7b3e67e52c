"""The k largest of many values, exactly and without sorting them.

Non-negative floats have the same order as their bit patterns, so the search is for an int32 threshold, and counting the
values at or above three thresholds is a single pass over memory. Bisection would need 31 passes. This needs about six:
a sorted sample brackets the threshold, interpolation closes in on it, and the search ends at any threshold that exactly
k values reach. A training needs about three, as it begins where the threshold of the step before was. Every threshold
is verified by counting, so the result does not depend on how it was found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from supermask.types import Array

SAMPLE = 256
_HIGHEST = 2**31 - 1  # above the bits of every float32
_TOP = _HIGHEST - 1
_FIRST_SPREAD = 2**16  # of the bits of a float: less than a hundredth of its value
_MANY = 2**14  # from so many values on, counting in slices is worth the time that it takes to compile

_Key = Callable[[Array, int], Array]
"""(part of a flat array, place of its first value) -> what is ranked, int32 from 0 to _TOP."""


@jax.jit
def top_k(values: Array, k: Array | int) -> Array:
    """Select the k largest of non-negative float32 or int32 `values` (any shape), as a bool array of the same shape.

    Ties go to the lower index. Exact for every input without NaN.

    Args:
        values: what to rank.
        k: from 1 to the number of values; an int or an int32 scalar.
    """
    [k] = counts = _as_vector([k])
    [above], [last] = _cuts([values], counts, _sample(values, k)[:, None])
    return beyond(values, above, last)


@jax.jit
def top_k_signed(values: Array, k: Array | int) -> Array:
    """`top_k` for float32 values of any sign."""
    positive, size = values > 0, lax.bitcast_convert_type(jnp.abs(values), jnp.int32)
    # Only values on one side of zero need ranking. If there are enough positive ones, all others tie at the bottom;
    # if not, all positive ones tie at the top.
    enough = _count(positive) >= k
    return top_k(jnp.where(positive, jnp.where(enough, size, _TOP), jnp.where(enough, 0, _TOP - 1 - size)), k)


def first_cuts(values: Sequence[Array], counts: Sequence[int]) -> np.ndarray:
    """Find where the largest values of each array end, by magnitude; on the host.

    Args:
        values: float32 arrays, whose signs do not count.
        counts: how many of each are kept, from 1 to its size.

    Returns:
        int32 (3, number of arrays). Of an array are kept the values whose bits are above the first number, and those
        equal to it whose place in the flat array is at most the second. The third is how far from the first the
        search for the next cut begins.
    """

    def cut(bits: np.ndarray, k: int) -> tuple[int, int, int]:
        lowest = int(np.partition(bits, -k)[-k])
        ties, missing = np.flatnonzero(bits == lowest), k - np.count_nonzero(bits > lowest)
        end = (lowest, int(ties[missing - 1])) if missing < len(ties) else (lowest - 1, -1)
        return *end, _FIRST_SPREAD

    pairs = zip(values, counts, strict=True)
    found = [cut(np.abs(np.asarray(array, np.float32)).ravel().view(np.int32), k) for array, k in pairs]
    return np.array(found, np.int32).reshape(-1, 3).T


def next_cuts(values: Sequence[Array], counts: Sequence[Array | int], cuts: Array) -> Array:
    """The same as `first_cuts`, on the device, and found sooner the less the arrays have changed since these cuts.

    It is exact for all arrays and cuts: those only say where to begin.
    """
    above, _, spread = cuts
    middle = jnp.minimum(above + 1, _TOP)
    tried = jnp.stack([jnp.maximum(middle - spread, 0), middle, middle + jnp.minimum(spread, _TOP - middle)])
    new, last = _cuts(values, _as_vector(counts), tried)
    # The spread tends to two and a half times the threshold's usual step.
    moved = jnp.minimum(jnp.abs(new - above), 2**28)
    return jnp.stack([new, last, jnp.clip(spread // 2 + moved // 4 * 5, 1, 2**28)])


def beyond(values: Array, above: Array, last: Array) -> Array:
    """Which values a cut keeps, as a bool array. It is elementwise, so that XLA computes it where it is used."""
    bits = _bits(values)
    return bits > jnp.where(_places(bits) <= last, above - 1, above)


def _as_vector(counts: Sequence[Array | int]) -> Array:
    return jnp.stack([jnp.asarray(k, jnp.int32) for k in counts])


def _bits(values: Array) -> Array:
    """The bits of the magnitudes of float32 values; int32 values as they are."""
    return values if values.dtype == jnp.int32 else lax.bitcast_convert_type(values, jnp.int32) & _HIGHEST


def _places(bits: Array) -> Array:
    return lax.iota(jnp.int32, bits.size).reshape(bits.shape)


def _count(chosen: Array) -> Array:
    """The number of true values, int32."""
    return jnp.sum(chosen, dtype=jnp.int32)


def _cuts(arrays: Sequence[Array], k: Array, tried: Array) -> tuple[Array, Array]:
    """The first two numbers of the cut of each array; the thresholds to try first are int32 (3, number of arrays)."""
    threshold, reached, past = _close_in(arrays, k, tried, [lambda part, first: _bits(part)] * len(arrays))
    exact = reached == k
    last = lax.cond(
        exact.all(),
        lambda arrays: jnp.full_like(k, -1),
        lambda arrays: _last_ties(arrays, threshold, k, reached, past),
        list(arrays),
    )
    return jnp.where(exact, threshold - 1, threshold), last


def _close_in(arrays: Sequence[Array], k: Array, tried: Array, keys: Sequence[_Key]) -> tuple[Array, Array, Array]:
    """For each array, a threshold that exactly k keys reach, or the k-th largest if there is none; and two counts.

    A bracket (low, high) has `reached` >= k keys at or above `low` and `past` < k at or above `high`. Of the three
    thresholds of a pass, one is where the wanted one is if the keys in the bracket lie evenly, and two are 0.7 standard
    deviations to either side, or a forty-fifth of the bracket. Every eighth pass quarters it, which bounds the number
    of passes. All arrays are searched in the same passes.

    Returns:
        The thresholds, how many keys reach them, and how many are above the k-th largest, where no threshold is reached
        by exactly k.
    """

    def open_ones(state: Array) -> Array:
        low, high, reached, *_ = state
        return (reached != k) & (high - low > 1)

    def narrow(carry: tuple[Array, Array, list[Array]]) -> tuple[Array, Array, list[Array]]:
        state, step, arrays = carry
        # Else XLA takes all slices out of the loop, each into memory of its own, since the loop does not change them.
        arrays, step = lax.optimization_barrier((arrays, step))
        low, high, reached, past, *tried = state
        found = [_reaching(array, [t[i] for t in tried], keys[i]) for i, array in enumerate(arrays)]
        going, pairs = open_ones(state), list(zip(tried, jnp.stack(found, axis=1), strict=True))
        for threshold, count in pairs:
            enough = going & (count >= k)
            low, reached = jnp.where(enough, threshold, low), jnp.where(enough, count, reached)
        for threshold, count in reversed(pairs):
            few = going & (count < k)
            high, past = jnp.where(few, threshold, high), jnp.where(few, count, past)
        inside, width = (reached - past).astype(jnp.float32), (high - low).astype(jnp.float32)
        share = ((reached - k).astype(jnp.float32) + 0.5) / (inside + 1)
        deviation = jnp.maximum(jnp.sqrt(share * (1 - share) / inside), 1 / 32)
        shares = [jnp.where(step % 8 == 7, 0.5 + side / 4, share + 0.7 * side * deviation) for side in (-1, 0, 1)]
        steps = [(width * jnp.clip(part, 0, 0.999)).astype(jnp.int32) for part in shares]  # 2**31 is not an int32
        tried = [jnp.clip(low + part, low + 1, high - 1) for part in steps]
        return jnp.stack([low, high, reached, past, *tried]), step + 1, arrays

    sizes = jnp.asarray(np.array([array.size for array in arrays], np.int32))
    whole = jnp.stack([jnp.zeros_like(k), jnp.full_like(k, _HIGHEST), sizes, jnp.zeros_like(k)])
    start = (jnp.concatenate([whole, tried]), jnp.int32(0), list(arrays))
    state, *_ = lax.while_loop(lambda carry: open_ones(carry[0]).any(), narrow, start)
    return state[0], state[2], state[3]


def _reaching(values: Array, thresholds: Sequence[Array], key: _Key) -> Array:
    """How many keys are at or above each of three thresholds, int32 (3,).

    An int32 has room for three counts of up to 1,023, so one pass over a large array counts for all three, in slices
    that are added to each other. XLA's CPU backend sums into one vector register: in a sum of a whole array each
    addition waits for the one before.
    """
    flat = values.reshape(-1)
    if flat.size < _MANY:
        keys = key(flat, 0)
        return jnp.stack([_count(keys >= t) for t in thresholds])

    def counts(part: Array, first: int) -> Array:
        keys = key(part, first)
        return reduce(add, [jnp.where(keys >= t, 1 << 10 * i, 0) for i, t in enumerate(thresholds)])

    def unpacked(packed: Array) -> Array:
        return jnp.sum(packed[None] >> 10 * jnp.arange(3)[:, None] & 1023, axis=1)

    parts, rest = _slices(flat, 16, 4)
    packed = reduce(add, [counts(part, i * len(part)) for i, part in enumerate(parts)])
    parts, left = _slices(packed, 63, 1)
    ends = jnp.concatenate([left, counts(rest, flat.size - rest.size)])
    found = unpacked(reduce(add, parts))
    return found + unpacked(ends) if ends.size else found


def _slices(values: Array, most: int, unit: int) -> tuple[list[Array], Array]:
    """Up to `most` slices of equal length, a multiple of `unit`, and what is left over.

    Nothing is, if some number of slices above half of `most` divides the array.
    """
    exact = (count for count in range(most, most // 2, -1) if len(values) % (count * unit) == 0)
    count = next(exact, most)
    length = len(values) // count // unit * unit
    return [values[i * length : (i + 1) * length] for i in range(count)], values[count * length :]


def _sample(values: Array, k: Array) -> Array:
    """Where the k-th largest should be by a sample, and three standard deviations below and above it, int32 (3,)."""
    n, size = values.size, min(SAMPLE, values.size)
    stride = (n // size - 1) | 1  # odd, so that rows whose width is a power of two are not sampled in one column
    sample = jnp.sort(_bits(lax.slice(values.reshape(-1), (0,), (stride * (size - 1) + 1,), (stride,))))
    share = k.astype(jnp.float32) / n
    spread = 3 * jnp.sqrt(size * share * (1 - share)) + 1
    ranks = (size * (1 - share) + spread * jnp.arange(-1.0, 2.0)).astype(jnp.int32)
    return sample[jnp.clip(ranks, 0, size - 1)]


def _last_ties(arrays: Sequence[Array], threshold: Array, k: Array, reached: Array, past: Array) -> Array:
    """The place up to which values that are equal to the k-th largest are among the k largest; -1 if there are none."""
    sizes = np.array([array.size for array in arrays], np.int32)
    tied = reached != k

    def place_from_the_end(i: int) -> _Key:
        def key(part: Array, first: int) -> Array:
            places = first + lax.iota(jnp.int32, part.size)
            return jnp.where(_bits(part) == threshold[i], sizes[i] - places, 0)

        return key

    # The first ties have the largest keys. An array without ties asks for all its keys, so nothing is searched there.
    missing = jnp.where(tied, k - past, sizes)
    gap = 1 / (reached - past + 1).astype(jnp.float32)
    ends = [sizes.astype(np.float32) * (1 - gap * (missing.astype(jnp.float32) + part)) for part in (1, 0.5, 0)]
    tried = jnp.stack([jnp.clip(end.astype(jnp.int32), 1, sizes) for end in ends])
    found, *_ = _close_in(arrays, missing, tried, [place_from_the_end(i) for i in range(len(arrays))])
    return jnp.where(tied, sizes - found, -1)
