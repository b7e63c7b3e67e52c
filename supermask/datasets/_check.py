"""What all datasets share: no argument where none is taken, a Dataset whose parts agree, and notes to the user."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
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
    """Return the dataset if all its parts agree. Every dataset ends with this call.

    `source` is the file or folder that the message names.

    Raises:
        BadFileError: a split is empty or not uint8 (n, height, width, channels) with int32 labels (n,), a label has no
            class, splits differ in image size, or mean and std do not fit the channels.
    """
    splits = {"train": dataset.train, "test": dataset.test}
    if dataset.validation is not None:
        splits["validation"] = dataset.validation
    size = dataset.train.inputs.shape[1:]
    for name, split in splits.items():
        _check_split(split, len(dataset.classes), f"{source}: the {name} split")
        if split.inputs.shape[1:] != size:
            raise BadFileError(
                f"{source}: {name} images are {times(split.inputs.shape[1:])} and train images {times(size)}; "
                "all splits must have the same image size"
            )
    channels = size[-1]
    if len(dataset.mean) != channels or len(dataset.std) != channels or not _usable(dataset.mean, dataset.std):
        raise BadFileError(
            f"{source}: mean {dataset.mean} and std {dataset.std} must be {channels} finite numbers each, std above 0"
        )
    return dataset


def note(text: str) -> None:
    """Say on stderr what was left out, turned or guessed, in one line."""
    print(f"note: {' '.join(text.split())}", file=sys.stderr)  # a quoted name may contain line breaks


def counted(count: int, noun: str) -> str:
    """A number with its noun: 1 image, 1,200 images."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def note_shape(where: str, noun: str, shape: Sequence[int], official: Sequence[int]) -> None:
    """Say in one line on stderr that images are not those of the official files, but an extract or a stand-in.

    Args:
        where, noun: whose images they are, such as a path, and what it is: a file or a split.
        shape, official: (n, height, width, channels). Nothing is said if they are equal.
    """
    if tuple(shape) != tuple(official):
        note(
            f"{where} has {counted(shape[0], 'image')} of {times(shape[1:])}; "
            f"the official {noun} has {official[0]:,} of {times(official[1:])}"
        )


def times(shape: Sequence[int]) -> str:
    """A shape as people write it: 60000x28x28."""
    return "x".join(str(length) for length in shape)


def _check_split(split: Split, classes: int, what: str) -> None:
    images, labels = split.inputs, split.targets
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
