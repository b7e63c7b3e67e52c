"""Mean and standard deviation of images, exact and in little memory."""

from __future__ import annotations

import math

import numpy as np

_CHUNK = 1 << 22


def mean_std(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel, of pixels scaled to [0, 1]; `images` is uint8 (n, height, width, channels), not empty.

    Counting the 256 values makes the sums whole numbers: the result depends on no order of summation, hence on no
    machine. A channel that is constant has the standard deviation 1, so that dividing by it is harmless.
    """
    pixels = images.reshape(-1, images.shape[-1])
    values = np.arange(256)
    mean, std = [], []
    for channel in range(pixels.shape[1]):
        counts = np.zeros(256, np.int64)
        for start in range(0, len(pixels), _CHUNK):
            counts += np.bincount(pixels[start : start + _CHUNK, channel], minlength=256)
        total = len(pixels)
        first, second = int(counts @ values), int(counts @ values**2)
        mean.append(first / total / 255)
        # Python's whole numbers do not overflow: the variance is exact up to its one division and root.
        std.append(math.sqrt((total * second - first * first) / (total * total)) / 255 or 1.0)
    return tuple(mean), tuple(std)
