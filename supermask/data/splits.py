"""Loads datasets for experiments: resizes images and holds a validation split out of train."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from supermask import registry
from supermask.config import Config
from supermask.data import augment
from supermask.errors import UsageError
from supermask.runtime.places import NO_HOME, cache_folder, expand
from supermask.types import Dataset, Split


def load_dataset(config: Config, data_dir: Path | None = None) -> Dataset:
    """Load the dataset, resize it if the config says so, and hold the validation split out of train.

    The split depends only on the number of images, not on the seed, so accuracies of different seeds are measured on
    the same images.
    """
    module = registry.load("datasets", config.dataset)
    argument = config.dataset.partition(":")[2] if hasattr(module, "load") else ""
    dataset = getattr(module, "load", module)(data_dir or default_data_dir(), argument)
    train, test = dataset.train, dataset.test
    if config.image_size is not None:
        train, test = (Split(augment.resize(s.images, config.image_size), s.labels) for s in (train, test))
    if dataset.validation is not None:
        return replace(dataset, train=train, test=test)
    count = len(train)
    held_out = round(config.validation * count)
    if not 0 < held_out < count:
        raise UsageError(
            f"validation {config.validation} holds out {held_out} of {count} training images; both parts need one"
        )
    order = np.argsort(np.random.Philox(key=count).random_raw(count), kind="stable")
    chosen, rest = np.sort(order[:held_out]), np.sort(order[held_out:])
    return replace(dataset, train=_part(train, rest), validation=_part(train, chosen), test=test)


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
    """The folder named by SUPERMASK_DATA_DIR, or else a folder in the user's cache; see `NO_HOME`."""
    if named := os.environ.get("SUPERMASK_DATA_DIR"):
        return expand(named)
    return (cache_folder() or NO_HOME) / "data"
