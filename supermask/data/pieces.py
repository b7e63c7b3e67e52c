"""A split on its way to the devices for one pass over it: all of it at once, or piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from supermask.data.ahead import ahead, read
from supermask.data.feed import Placement
from supermask.types import Array, Split


@dataclass(frozen=True)
class Pieces:
    """A split on its way to the devices, in pieces of the same size, whole batches each.

    Attributes:
        size: number of examples in a piece; the last one is filled up with examples that count for nothing.
    """

    split: Split
    size: int
    placement: Placement

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        yield from ahead(self._piece, range(0, len(self.split), self.size))

    @property
    def examples(self) -> int:
        """Number of examples of the split."""
        return len(self.split)

    @property
    def blank(self) -> tuple[Array, Array]:
        """A piece like all others, to compile for."""
        arrays = self.split.inputs, self.split.targets
        found: tuple[Array, Array] = self.placement.replicate(
            tuple(np.zeros((self.size, *array.shape[1:]), array.dtype) for array in arrays)
        )
        return found

    def relabelled(self, labels: np.ndarray) -> Pieces:
        """Return the same examples with other labels."""
        return replace(self, split=Split(self.split.inputs, labels))

    def _piece(self, start: int) -> tuple[Array, Array]:
        index = np.arange(start, min(start + self.size, len(self.split)))
        images, labels = read(self.split.inputs, index), self.split.targets[index]
        missing = self.size - len(index)
        if missing:
            images = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
            labels = np.concatenate([labels, np.full_like(labels[-1:], -1).repeat(missing, axis=0)])
        found: tuple[Array, Array] = self.placement.replicate((images, labels))
        return found


@dataclass(frozen=True)
class Whole:
    """A split that stays on the devices, as one piece."""

    data: tuple[Array, Array]
    placement: Placement

    @property
    def size(self) -> int:
        """See `Pieces`."""
        return len(self.data[1])

    examples = size

    @property
    def blank(self) -> tuple[Array, Array]:
        """See `Pieces`."""
        return self.data

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        yield self.data

    def relabelled(self, labels: np.ndarray) -> Whole:
        """See `Pieces`."""
        return Whole((self.data[0], self.placement.replicate(labels)), self.placement)
