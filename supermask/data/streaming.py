"""Data that does not fit into memory: whether and how it streams.

Pieces of it are made on the host while the devices compute. The examples, their order and the arithmetic are those of
resident data, so results are the same, bit for bit.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from typing import Any

import jax

from supermask.config.words import RANDOM_CROPS
from supermask.datasets._check import counted, times
from supermask.datasets._lazy import Crops, Files, Lazy
from supermask.errors import UsageError
from supermask.runtime import memory
from supermask.types import Dataset, Split

LARGEST_PIECE = 32 << 20
"""Bytes of a piece: the devices wait for the first one of an epoch, so it should not take long to make."""


@dataclass(frozen=True)
class Streaming:
    """How a dataset streams.

    Attributes:
        piece_bytes: the size of a piece; there is always room for a batch.
    """

    piece_bytes: int

    def batches(self, batch_size: int, shape: tuple[int, ...], most: int) -> int:
        """Number of batches in a piece of images of this shape."""
        return max(1, min(most, self.piece_bytes // (batch_size * math.prod(shape))))


def cropped(dataset: Dataset, augment: str | None) -> Dataset:
    """Return the dataset with crops in place of its images where training is to see random ones.

    Raises:
        UsageError: it has no images.
    """
    if augment != RANDOM_CROPS:
        return dataset
    if len(dataset.train.inputs.shape) != 4:
        raise UsageError(f"--augment {RANDOM_CROPS} is for images, and the examples here are none: leave it out")

    def crops(split: Split) -> Split:
        images: Any = split.inputs  # those of files are crops already
        return split if isinstance(images, Lazy) else Split(Crops(images), split.targets)  # type: ignore[arg-type]

    validation = dataset.validation and crops(dataset.validation)
    return replace(dataset, train=crops(dataset.train), test=crops(dataset.test), validation=validation)


def plan(dataset: Dataset, batch_size: int) -> Streaming | None:
    """Return how a dataset streams, and say so on stderr; None if it is to be kept on the devices."""
    splits = [split for split in (dataset.train, dataset.validation, dataset.test) if split is not None]
    total, train = sum(split.inputs.nbytes for split in splits), dataset.train.inputs
    lazy, limit = isinstance(train, Lazy), memory.resident_limit()
    if limit is None:
        limit = memory.half_of_free() if lazy else _half_of_device()
    if not lazy and total <= limit:
        return None
    found = Streaming(min(LARGEST_PIECE, limit // 8))
    why = f"over the limit of {memory.shown(limit)}"
    if lazy and train.view.crops and total <= limit:  # type: ignore[attr-defined]
        why = "since random crops are made on the host"
    length = found.batches(batch_size, train.shape[1:], len(train) // batch_size)
    chunks = f"chunks of {length} batches" if length > 1 else "chunks of a batch"
    helpers = "from memory"
    if isinstance(train, Files):
        helpers = counted(train.workers, "worker") if train.workers else "decoded in threads"
    print(
        f"streaming: {counted(sum(map(len, splits)), 'example')} of {times(train.shape[1:3])}, "
        f"{memory.shown(total)}, {why}; {chunks}, {helpers}",
        file=sys.stderr,
    )
    return found


def _half_of_device() -> int:
    """Half of the memory that is free on a device; a lot on a CPU, where the data already is."""
    found = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" not in found:
        return 1 << 62
    return int(found["bytes_limit"] - found.get("bytes_in_use", 0)) // 2
