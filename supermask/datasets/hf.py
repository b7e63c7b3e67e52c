"""Parquet files of images in a folder, as Hugging Face has them: `hf:PATH` with train-*.parquet, test-*.parquet etc.

Source: your own copy of a dataset, as `hf download --repo-type dataset` or `Dataset.to_parquet` writes it.
Needs the extra `parquet` (pyarrow).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from supermask.datasets._arrays import labels_of
from supermask.datasets._check import counted, note
from supermask.datasets._folder import read_images
from supermask.datasets._parquet import columns_of, read_shards
from supermask.datasets._parts import with_test
from supermask.datasets._shards import shards_of
from supermask.errors import BadFileError, UsageError
from supermask.runtime.places import expand
from supermask.types import Dataset

EPOCHS = 30
AUGMENT = "none"
RESIZES = True
CROPS = True
ARGUMENT = "path"


def load(data_dir: Path, argument: str = "", image_size: int | None = None, crops: bool = False) -> Dataset:
    """Read the folder at the path `argument`, and the folders below; `data_dir` is not used.

    Images lie in the files themselves and are read as those of `folder:PATH` are. Classes are those that the schema
    names, else the numbers up to the largest label of train, or strings in sorted order. Examples without a label, -1,
    make a split that is left out. Without a test split, validation is the test split.

    Args:
        image_size: height and width of the images, if theirs differ. Images of one size keep it.

    Returns:
        Images uint8 (n, height, width, 1 or 3), labels int32 (n,), mean and std of the training images.

    Raises:
        UsageError: no path was given.
        SupermaskError: pyarrow is missing.
        BadFileError: a file is missing, damaged or in another layout, an image is unreadable, a label out of range.
    """
    if not argument:
        raise UsageError("dataset hf needs the path of a folder: hf:PATH")
    root = expand(argument)
    shards = shards_of(root)
    columns = columns_of(shards["train"][0])
    splits = {part: read_shards(paths, columns) for part, paths in shards.items()}
    for part in [part for part, (_, labels) in splits.items() if part != "train" and _is_unlabelled(labels)]:
        note(f"{root}: left out {part}, {counted(len(splits.pop(part)[0]), 'image')} without labels (-1)")
    splits = with_test(splits, root, "validation")
    if "test" not in splits:
        raise BadFileError(f"{root} has only files of train; add some of test or validation, such as test-*.parquet")
    word = f"{columns.label} of "
    labels, classes = labels_of({word + part: splits[part][1] for part in splits}, root)
    labelled = {part: (images, labels[word + part]) for part, (images, _) in splits.items()}
    return read_images(root, labelled, columns.classes or classes, image_size, crops)


def _is_unlabelled(labels: np.ndarray) -> bool:
    return labels.dtype.kind == "i" and bool((labels == -1).all())
