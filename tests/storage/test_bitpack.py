"""Masks as bytes and back."""

import numpy as np
import pytest

from supermask.storage import bitpack

SHAPES = [(1,), (7, 3), (3, 3, 2, 5), (64, 64)]


@pytest.mark.parametrize("shape", SHAPES)
def test_bits(shape):
    mask = np.random.default_rng(0).random(shape) < 0.3
    packed = bitpack.pack_bits(mask)
    assert packed.size == -(-mask.size // 8)
    np.testing.assert_array_equal(bitpack.unpack_bits(packed, shape), mask)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("low", "high", "width"), [(0, 1, 1), (-1, 1, 2), (0, 3, 2), (1, 8, 3), (-128, 127, 8), (5, 5, 1)]
)
def test_small_whole_numbers_take_the_bits_of_their_range(shape, low, high, width):
    mask = np.random.default_rng(0).integers(low, high + 1, shape).astype(np.int8)
    mask.flat[0], mask.flat[-1] = low, high
    width = max(1, (int(mask.max()) - int(mask.min())).bit_length())
    packed = bitpack.pack_small(mask)
    assert packed.size == 2 + -(-mask.size * width // 8)
    np.testing.assert_array_equal(bitpack.unpack_small(packed, shape), mask)


@pytest.mark.parametrize(
    "packed",
    [[], [128], [128, 0, 0, 0, 0], [128, 9, 0, 0, 0], [128, 2, 0, 0], [128, 2, 0, 0, 0, 0], [255, 2, 255, 255, 255]],
    ids=["empty", "no width", "width 0", "width 9", "short", "long", "beyond int8"],
)
def test_damaged_bytes_are_refused(packed):
    with pytest.raises(ValueError, match="mask"):
        bitpack.unpack_small(np.array(packed, np.uint8), (3, 4))
