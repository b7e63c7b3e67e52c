"""Random images in the shapes of MNIST and CIFAR-10, as datasets of one's own: `--dataset shapes:cifar`."""

from pathlib import Path

import numpy as np

from supermask.types import Dataset, Split


def _images(shape: tuple[int, int, int]) -> Dataset:
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 6_000).astype(np.int32)
    images = random.integers(0, 256, (6_000, *shape), dtype=np.uint8)
    split = Split(images, labels)
    ones = (0.5,) * shape[-1]
    return Dataset(train=split, test=split, classes=tuple("0123456789"), mean=ones, std=ones)


def mnist(data_dir: Path, argument: str = "") -> Dataset:
    """28x28x1."""
    return _images((28, 28, 1))


def cifar(data_dir: Path, argument: str = "") -> Dataset:
    """32x32x3."""
    return _images((32, 32, 3))
