"""The images of a dataset in image files: decoded at once, or where they would not fit, when they are needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from supermask.datasets._check import note
from supermask.datasets._frames import View
from supermask.datasets._images import Source, Survey, decode, strictly, survey
from supermask.datasets._lazy import Files
from supermask.datasets._pool import Pool, pieces
from supermask.datasets._stats import Moments, mean_std, of_counts
from supermask.errors import BadFileError
from supermask.runtime import memory
from supermask.weights.streams import permutation, stream

MANY = 10_000
"""Number of files that are worth starting processes to look at them."""

DECODED = 4 << 30
"""Bytes of files that are decoded at the beginning, which takes a minute or two: all, or as many as that are."""

TRANSPARENT = "transparent pixels are put on white"


def images_of(
    root: Path, paths: Mapping[str, Sequence[Source]], image_size: int | None, crops: bool, grey: bool = True
) -> tuple[dict[str, Any], Survey, Moments]:
    """Return (split -> its images, what is known of them, mean and deviation of train).

    Args:
        paths: split -> its files.
        image_size, crops, grey: see `_folder.read_images`.

    Raises:
        BadFileError: an image cannot be read, or sizes differ and `image_size` is None.
    """
    everything = [path for files in paths.values() for path in files]
    pool = Pool(memory.workers())
    found = _survey(everything, pool)
    if not found.sizes:
        raise BadFileError(f"{root} has no images")
    found.grey = found.grey and grey
    size = found.common_size(image_size)
    view = View(size, 1 if found.grey else 3, resized=len(found.sizes) > 1, crops=crops)
    limit = memory.resident_limit()
    limit = memory.half_of_free() if limit is None else limit
    if crops or len(everything) * math.prod(view.shape) > limit:
        lazy = {part: Files.below(root, files, view, pool) for part, files in paths.items()}
        return lazy, found, _moments(root, lazy, found)
    splits = {}
    with strictly():
        for part, files in paths.items():
            splits[part], transparent = decode(files, view)
            found.remarks[TRANSPARENT] += transparent
    return splits, found, mean_std(splits["train"])


def _survey(paths: Sequence[Source], pool: Pool) -> Survey:
    if len(paths) < MANY or not pool.workers:
        return survey(paths)
    found, names = Survey(), list(paths)
    for own in pool.map("look", ((names[cut],) for cut in pieces(len(names)))):
        found.add(own)
    return found


def _moments(root: Path, splits: Mapping[str, Files], found: Survey) -> Moments:
    """Mean and deviation of the training images, by decoding all images once, or some if there are too many."""
    total = sum(int(split.sizes.sum()) for split in splits.values())
    if total <= DECODED:
        measured = {part: split.measured() for part, split in splits.items()}
        for part, split in splits.items():
            split.content = measured[part].content
            found.remarks[TRANSPARENT] += measured[part].transparent
        return of_counts(measured["train"].counts)
    train = splits["train"]
    count = max(1, round(len(train) * DECODED / total))
    some = train.take(np.sort(permutation(len(train), stream("moments"))[:count])).measured()
    if some.transparent:
        found.remarks[f"{TRANSPARENT}, of {count:,} training images; others were not looked at"] = some.transparent
    note(
        f"{root}: {memory.shown(total)} of images: mean and deviation are those of {count:,} of {len(train):,} "
        "training images, and files are known by names and sizes"
    )
    return of_counts(some.counts)
