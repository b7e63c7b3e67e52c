"""Masks as bytes: one bit per weight for a binary mask, as many as the range of values needs for an integer one."""

from __future__ import annotations

import math

import numpy as np


def pack_bits(mask: np.ndarray) -> np.ndarray:
    """Bool of any shape -> uint8 of shape (ceil(size / 8),), little bit order."""
    return np.packbits(mask.ravel(), bitorder="little")


def unpack_bits(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `pack_bits`: the bool array of that shape.

    Raises:
        ValueError: the number of bytes does not match the shape.
    """
    return _bits(packed, _size(shape)).view(bool).reshape(shape)


def pack_small(mask: np.ndarray) -> np.ndarray:
    """int8 of any shape -> uint8, 1D.

    The first byte is the lowest value plus 128, the second the number of bits per value. The values follow, less the
    lowest, packed in little bit order.
    """
    low = int(mask.min())
    width = max(1, (int(mask.max()) - low).bit_length())
    above = (mask.astype(np.int16) - low).astype(np.uint8).ravel()
    bits = np.unpackbits(above[:, None], axis=1, bitorder="little")[:, :width]
    return np.concatenate([np.array([low + 128, width], np.uint8), np.packbits(bits, bitorder="little")])


def unpack_small(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `pack_small`: the int8 array of that shape.

    Raises:
        ValueError: the bytes are not a packed array of that shape.
    """
    if packed.size < 2 or not 1 <= packed[1] <= 8:
        raise ValueError("a packed mask has an invalid header; it should be two bytes, the second from 1 to 8")
    low, width = int(packed[0]) - 128, int(packed[1])
    bits = _bits(packed[2:], _size(shape) * width).reshape(-1, width)
    values = np.packbits(bits, axis=1, bitorder="little").ravel().astype(np.int16) + low
    if (values > 127).any():
        raise ValueError("a packed mask has values above 127")
    return values.astype(np.int8).reshape(shape)


def _bits(packed: np.ndarray, count: int) -> np.ndarray:
    if packed.dtype != np.uint8 or packed.ndim != 1 or packed.size != -(-count // 8):
        raise ValueError(f"the bits of a mask are {packed.dtype} {packed.shape}, not uint8 ({-(-count // 8)},)")
    return np.unpackbits(packed, count=count, bitorder="little")


def _size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)
