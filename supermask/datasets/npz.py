"""Arrays of an .npz file: `npz:PATH` with x_train, y_train, x_test, y_test, as Keras names them, or train_images etc.

Source: your own file, written by `numpy.savez(PATH, x_train=..., y_train=..., x_test=..., y_test=...)`. The mnist.npz
of Keras and the files of MedMNIST have this form.
"""

from __future__ import annotations

from pathlib import Path

from supermask.datasets._check import check
from supermask.datasets._npz import read_npz
from supermask.datasets._stats import mean_std
from supermask.errors import UsageError
from supermask.runtime.places import expand
from supermask.types import Dataset

EPOCHS = 30
AUGMENT = "none"
ARGUMENT = "path"


def load(data_dir: Path, argument: str = "") -> Dataset:
    """Read the file at the path `argument`; `data_dir` is not used.

    A name says split and content in any order and spelling: x, images or data; y, labels or targets; train, test, and
    val for a validation split. Images have the shape (n, height, width), (n, height, width, channels) or (n, channels,
    height, width); `_arrays.images_of` and `labels_of` say which numbers are read. Mean and std are those of train.

    Returns:
        Images uint8 (n, height, width, channels), labels int32 (n,).

    Raises:
        UsageError: no path was given.
        BadFileError: the file is missing or damaged, lacks an array, or has one of another type or shape.
    """
    if not argument:
        raise UsageError("dataset npz needs the path of a file: npz:PATH")
    path = expand(argument)
    splits, classes = read_npz(path)
    train, test = splits["train"], splits["test"]
    return check(Dataset(train, test, classes, *mean_std(train.inputs), splits.get("validation")), path)
