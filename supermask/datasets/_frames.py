"""What of an image is shown, at which size: all of it, a random crop for training, or its middle for evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from supermask.weights.streams import stream

AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
"""Shares of the image's area, and ratios of width to height, that random crops have."""

MIDDLE = 224 / 256
"""Share of the shorter side that evaluation sees where training sees random crops."""

_TRIES = 10
Box = tuple[float, float, float, float]
"""Left, upper, right, lower."""


class View(NamedTuple):
    """How image files become pixels.

    Attributes:
        size: height and width in pixels.
        channels: 1 for grey, 3 for RGB.
        resized: whether images may have other sizes, and are resized.
        crops: whether crops are taken, random ones in training; else the whole image is seen.
    """

    size: tuple[int, int]
    channels: int
    resized: bool = False
    crops: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return *self.size, self.channels


def framed(image: Any, view: View, noise: str | None = None) -> Any:
    """Return what a view shows of a Pillow image; `noise` names a random crop."""
    from PIL import Image

    height, width = view.size
    if not view.crops:
        return image.resize((width, height), Image.Resampling.BILINEAR) if view.resized else image
    if noise is None:
        return image.resize((width, height), Image.Resampling.BILINEAR, box=_middle(image.size, width / height))
    numbers = _uniform(noise)
    shown = image.resize((width, height), Image.Resampling.BILINEAR, box=random_box(image.size, numbers))
    return shown.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if next(numbers) < 0.5 else shown


def random_box(size: tuple[int, int], numbers: Iterator[float]) -> Box:
    """Draw the crop of Szegedy et al. 2015 (arXiv 1409.4842, section 6): its area, then its ratio, then its place.

    A ratio that does not fit into the image is drawn again, ten times; then the largest crop in the middle is taken.

    Args:
        size: width and height of the image.
        numbers: uniform in [0, 1).
    """
    width, height = size
    low, high = (math.log(ratio) for ratio in RATIO)
    for _ in range(_TRIES):
        area = width * height * (AREA[0] + next(numbers) * (AREA[1] - AREA[0]))
        ratio = math.exp(low + next(numbers) * (high - low))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, upper = int(next(numbers) * (width - w + 1)), int(next(numbers) * (height - h + 1))
            return left, upper, left + w, upper + h
    return _inner(size, min(max(width / height, RATIO[0]), RATIO[1]), 1)


def _middle(size: tuple[int, int], ratio: float) -> Box:
    return _inner(size, ratio, MIDDLE)


def _inner(size: tuple[int, int], ratio: float, share: float) -> Box:
    """The largest box of a ratio of width to height in the middle of an image, times `share`."""
    width, height = size
    w, h = share * min(width, height * ratio), share * min(height, width / ratio)
    return (width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2


def _uniform(noise: str) -> Iterator[float]:
    """Numbers in [0, 1) that depend on the words alone."""
    bits = stream(noise)
    while True:
        for value in bits.random_raw(8):
            yield (int(value) >> 11) / (1 << 53)
