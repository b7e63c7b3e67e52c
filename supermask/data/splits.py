"""Loads datasets for experiments: resizes images and holds a validation split out of train."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from supermask import registry
from supermask.config import Config
from supermask.config.words import RANDOM_CROPS
from supermask.datasets._lazy import Files, Lazy
from supermask.errors import BadFileError, UsageError
from supermask.runtime.places import NO_HOME, cache_folder, expand
from supermask.types import Dataset, Split


def noun_of(dataset: Dataset) -> str:
    """What the examples of a dataset are: images, or sequences (of tokens)."""
    return "sequences" if len(dataset.train.inputs.shape) == 2 else "images"


def load_dataset(config: Config, data_dir: Path | None = None) -> Dataset:
    """Read the dataset of a config and split it, see `read_dataset` and `split_dataset`."""
    return split_dataset(config, read_dataset(config, data_dir))


def read_dataset(config: Config, data_dir: Path | None = None) -> Dataset:
    """Read the dataset of a config as its file gives it. Needs no JAX.

    Raises:
        BadFileError: it is missing or damaged.
    """
    module, path = registry.load("datasets", config.dataset), find_path(config.dataset, data_dir)
    argument = config.dataset.partition(":")[2] if hasattr(module, "load") else ""
    argument = argument if path is None else str(path)
    more: dict[str, Any] = {"image_size": config.image_size} if getattr(module, "RESIZES", False) else {}
    if getattr(module, "CROPS", False):
        more["crops"] = config.augment == RANDOM_CROPS
    found: Dataset = getattr(module, "load", module)(data_dir or default_data_dir(), argument, **more)
    return found


def find_path(dataset: str, data_dir: Path | None = None) -> Path | None:
    """Return where the data of `npz:PATH` or `folder:PATH` lies; None for datasets that are not named by a path.

    A relative path is looked for in the current folder, then in the folder of datasets.

    Raises:
        BadFileError: it is in neither.
    """
    name, _, argument = dataset.partition(":")
    if not argument or registry.is_own("datasets", dataset):
        return None
    if registry.describe("datasets", name).constants.get("ARGUMENT") != "path":
        return None
    path, there = expand(argument), (data_dir or default_data_dir()) / argument
    if not path.exists() and there.exists():
        return there
    if not path.exists():
        beside = f", neither here nor in {data_dir}" if data_dir and not path.is_absolute() else ""
        raise BadFileError(f"{path} does not exist{beside}")
    return path


def split_dataset(config: Config, dataset: Dataset) -> Dataset:
    """Resize the images if the config says so, and hold a validation split out of train if there is none.

    The split depends only on the number of examples, not on the seed, so accuracies of different seeds are measured on
    the same examples. If nothing is to be held out, the training examples stand for those of validation.

    Raises:
        UsageError: train or validation would have no examples.
    """
    if config.image_size is not None and noun_of(dataset) == "images":
        dataset = _resized(dataset, config.image_size)
    if dataset.validation is not None:
        if config.validation != type(config).validation:  # who leaves it as it is has asked for nothing
            print(
                f"note: {config.dataset} has its own validation split, of {len(dataset.validation):,} "
                f"{noun_of(dataset)}; validation {config.validation:g} is not used",
                file=sys.stderr,
            )
        return dataset
    train, count = dataset.train, len(dataset.train)
    if not config.validation:
        print(
            f"note: validation 0 holds nothing out: validation accuracy is that of all {count:,} training "
            f"{noun_of(dataset)}",
            file=sys.stderr,
        )
        return replace(dataset, validation=train)
    held_out = round(config.validation * count)
    if not 0 < held_out < count:
        raise UsageError(
            f"validation {config.validation} holds out {held_out} of {count} training {noun_of(dataset)}; both parts "
            "need one"
        )
    order = np.argsort(np.random.Philox(key=count).random_raw(count), kind="stable")
    chosen, rest = np.sort(order[:held_out]), np.sort(order[held_out:])
    return replace(dataset, train=_part(train, rest), validation=_part(train, chosen))


def _resized(dataset: Dataset, size: int) -> Dataset:
    from supermask.data import augment  # imports JAX

    def resized(split: Split) -> Split:
        images = split.inputs
        return Split(images.resized(size) if isinstance(images, Files) else augment.resize(images, size), split.targets)

    validation = dataset.validation and resized(dataset.validation)
    return replace(dataset, train=resized(dataset.train), test=resized(dataset.test), validation=validation)


def _part(split: Split, index: np.ndarray) -> Split:
    """The examples at `index`, with inputs aligned to 64 bytes so that CPU devices can use them without a copy."""
    if isinstance(split.inputs, Lazy):
        return Split(split.inputs.take(index), split.targets[index])
    shape, dtype = (len(index), *split.inputs.shape[1:]), split.inputs.dtype
    size = math.prod(shape) * dtype.itemsize
    buffer = np.empty(size + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    inputs = buffer[start : start + size].view(dtype).reshape(shape)
    np.take(split.inputs, index, axis=0, out=inputs, mode="clip")  # any other mode makes a copy first
    inputs.flags.writeable = False
    return Split(inputs, split.targets[index])


def default_data_dir() -> Path:
    """The folder named by SUPERMASK_DATA_DIR, or else a folder in the user's cache; see `NO_HOME`."""
    if named := os.environ.get("SUPERMASK_DATA_DIR"):
        return expand(named)
    return (cache_folder() or NO_HOME) / "data"
