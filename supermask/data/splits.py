"""Loads datasets for experiments: resizes images and holds a validation split out of train."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from supermask import registry
from supermask.config import Config
from supermask.data import augment
from supermask.errors import UsageError
from supermask.types import Dataset, Split


def load_dataset(config: Config, data_dir: Path | None = None) -> Dataset:
    """Load the dataset, resize it if the config says so, and hold a validation split out of train if it has none.

    The split depends only on the number of images, not on the seed, so accuracies of different seeds are measured on
    the same images.
    """
    module = registry.load("datasets", config.dataset)
    argument = config.dataset.partition(":")[2] if hasattr(module, "load") else ""
    more = {"image_size": config.image_size} if getattr(module, "RESIZES", False) else {}
    dataset = getattr(module, "load", module)(data_dir or default_data_dir(), argument, **more)
    if config.image_size is not None:
        dataset = _resized(dataset, config.image_size)
    if dataset.validation is not None:
        print(
            f"note: {config.dataset} has its own validation split, of {len(dataset.validation):,} images; "
            f"validation {config.validation:g} is not used",
            file=sys.stderr,
        )
        return dataset
    train, count = dataset.train, len(dataset.train)
    held_out = round(config.validation * count)
    if not 0 < held_out < count:
        raise UsageError(
            f"validation {config.validation} holds out {held_out} of {count} training images; both parts need one"
        )
    order = np.argsort(np.random.Philox(key=count).random_raw(count), kind="stable")
    chosen, rest = np.sort(order[:held_out]), np.sort(order[held_out:])
    return replace(dataset, train=_part(train, rest), validation=_part(train, chosen))


def _resized(dataset: Dataset, size: int) -> Dataset:
    def resized(split: Split) -> Split:
        return Split(augment.resize(split.images, size), split.labels)

    validation = dataset.validation and resized(dataset.validation)
    return replace(dataset, train=resized(dataset.train), test=resized(dataset.test), validation=validation)


def _part(split: Split, index: np.ndarray) -> Split:
    """The examples at `index`, with images aligned to 64 bytes so that CPU devices can use them without a copy."""
    shape = (len(index), *split.images.shape[1:])
    size = math.prod(shape)
    buffer = np.empty(size + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    images = buffer[start : start + size].reshape(shape)
    np.take(split.images, index, axis=0, out=images, mode="clip")  # any other mode makes a copy first
    images.flags.writeable = False
    return Split(images, split.labels[index])


def default_data_dir() -> Path:
    """The folder named by SUPERMASK_DATA_DIR, or else a folder in the user's cache."""
    import platformdirs

    named = os.environ.get("SUPERMASK_DATA_DIR")
    return Path(named) if named else Path(platformdirs.user_cache_dir("supermask")) / "data"
