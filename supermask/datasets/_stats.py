"""Mean and standard deviation of images, exact and in little memory."""

from __future__ import annotations

import math

import numpy as np

_CHUNK = 1 << 22


Moments = tuple[tuple[float, ...], tuple[float, ...]]


def mean_std(images: np.ndarray) -> Moments:
    """Per channel, of pixels scaled to [0, 1]; `images` is uint8 (n, height, width, channels), not empty.

    The 256 values are counted, which makes the sums whole numbers: the result does not depend on the order of summation
    and is the same on every machine. A constant channel gets the standard deviation 1, so that dividing by it does no
    harm.
    """
    return of_counts(counts(images))


def counts(images: np.ndarray) -> np.ndarray:
    """How often each channel has each value, int64 (channels, 256)."""
    pixels = images.reshape(-1, images.shape[-1])
    found = np.zeros((pixels.shape[1], 256), np.int64)
    for channel, own in enumerate(found):
        for start in range(0, len(pixels), _CHUNK):
            own += np.bincount(pixels[start : start + _CHUNK, channel], minlength=256)
    return found


def of_counts(counts: np.ndarray) -> Moments:
    """Mean and standard deviation of what was counted, see `mean_std`."""
    values = np.arange(256)
    mean, std = [], []
    for own in counts:
        total, first, second = int(own.sum()), int(own @ values), int(own @ values**2)
        mean.append(first / total / 255)
        # Python's whole numbers do not overflow: the variance is exact but for one division and one root.
        std.append(math.sqrt((total * second - first * first) / (total * total)) / 255 or 1.0)
    return tuple(mean), tuple(std)
