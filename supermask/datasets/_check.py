"""What every dataset file owes: no argument it does not take, and a Dataset whose parts agree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from supermask.errors import BadFileError, UsageError
from supermask.types import Dataset, Split


def no_argument(name: str, argument: str) -> None:
    """Refuse `name:argument` for a dataset that takes nothing after a colon.

    Raises:
        UsageError: the argument is not empty.
    """
    if argument:
        raise UsageError(f"dataset {name} takes nothing after a colon, got {name + ':' + argument!r}")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into the one line that a user sees.

    Raises:
        BadFileError: `path` is missing or cannot be read.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise BadFileError(f"{path} does not exist") from error
    except OSError as error:
        raise BadFileError(f"cannot read {path}: {error.strerror or error}") from error


def check(dataset: Dataset, source: object) -> Dataset:
    """The dataset itself, if all its parts agree: every dataset file ends with this.

    `source` is the file or folder that the message names.

    Raises:
        BadFileError: a split is empty or not uint8 (n, height, width, channels) with int32 labels (n,), a label has no
            class, splits differ in image size, or mean and std do not fit the channels.
    """
    splits = {"train": dataset.train, "test": dataset.test}
    if dataset.validation is not None:
        splits["validation"] = dataset.validation
    for name, split in splits.items():
        _check_split(split, len(dataset.classes), f"{source}: the {name} split")
        if split.images.shape[1:] != dataset.train.images.shape[1:]:
            raise BadFileError(
                f"{source}: {name} images are {_size(split)} and train images {_size(dataset.train)}; they must agree"
            )
    channels = dataset.train.images.shape[3]
    if len(dataset.mean) != channels or len(dataset.std) != channels or not _usable(dataset.mean, dataset.std):
        raise BadFileError(
            f"{source}: mean {dataset.mean} and std {dataset.std} must be {channels} finite numbers each, std above 0"
        )
    return dataset


def _check_split(split: Split, classes: int, what: str) -> None:
    images, labels = split.images, split.labels
    if images.dtype != np.uint8 or images.ndim != 4:
        raise BadFileError(f"{what} has {images.dtype} images of rank {images.ndim}; they must be uint8 of rank 4")
    if labels.dtype != np.int32 or labels.ndim != 1:
        raise BadFileError(f"{what} has {labels.dtype} labels of rank {labels.ndim}; they must be int32 of rank 1")
    if len(images) != len(labels):
        raise BadFileError(
            f"{what} has {len(images)} images and {len(labels)} labels; there must be one label per image"
        )
    if images.size == 0:
        raise BadFileError(f"{what} is empty: its images have the shape {images.shape}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        bad = low if low < 0 else high
        raise BadFileError(f"{what} has the label {bad}; with {classes} classes, labels go from 0 to {classes - 1}")


def _usable(mean: tuple[float, ...], std: tuple[float, ...]) -> bool:
    return bool(np.isfinite(mean).all() and np.isfinite(std).all() and min(std) > 0)


def _size(split: Split) -> str:
    return "x".join(str(length) for length in split.images.shape[1:])
