"""Images that are not decoded or cropped yet: they stand where an array of them would, and give out pieces of it."""

from __future__ import annotations

import abc
import hashlib
import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn, Self

import numpy as np

from supermask.datasets._frames import View, framed
from supermask.datasets._images import Encoded, Source
from supermask.datasets._pool import Pool, pieces
from supermask.errors import BadFileError


class Lazy(abc.ABC):
    """Images uint8 (n, height, width, channels), known by their shape; indexing makes them.

    Attributes:
        view: size and channels of all images, and whether they are crops.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, view: View) -> None:
        self.view = view

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def read(self, index: np.ndarray, noise: str | None = None) -> np.ndarray:
        """Return the images at these places; `noise` names their random crops, if crops are taken.

        Raises:
            BadFileError: an image cannot be read.
        """

    @abc.abstractmethod
    def take(self, index: np.ndarray) -> Self:
        """Return the images at these places without reading them."""

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Text that differs for other images."""

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self), *self.view.shape

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """What all images would take."""
        return self.size

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return images as evaluation sees them."""
        chosen = np.arange(len(self))[index]
        found = self.read(np.atleast_1d(chosen))
        return found if chosen.ndim else found[0]

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("these images are read in pieces, since all of them may not fit into memory: index them")

    def _names(self, index: np.ndarray, noise: str | None) -> list[str]:
        """The names of random crops, which depend on the image and not on those beside it; [] for none."""
        return [f"{noise}/{i}" for i in index] if self.view.crops and noise is not None else []


class Measured(NamedTuple):
    """What decoding all images of a split tells.

    Attributes:
        content: see `digest_of`.
        counts: how often each channel has each value, int64 (channels, 256).
        transparent: number of images with transparent pixels.
    """

    content: str
    counts: np.ndarray
    transparent: int


class Files(Lazy):
    """Image files.

    Attributes:
        sizes: number of bytes of each file.
        content: what an array of all images would be known by, see `digest_of`; None if they were not all decoded.
    """

    def __init__(self, paths: np.ndarray, root: str, sizes: np.ndarray, view: View, pool: Pool) -> None:
        super().__init__(view)
        self._paths, self._root, self.sizes, self._pool = paths, root, sizes, pool
        self.content: str | None = None

    @classmethod
    def below(cls, root: object, paths: Sequence[Source], view: View, pool: Pool) -> Files:
        """Return the images at these paths; their fingerprint does not depend on where `root` lies.

        Raises:
            BadFileError: a file is gone.
        """
        names, sizes = np.empty(len(paths), object), np.empty(len(paths), np.int64)
        names[:] = paths
        sizes[:] = [_size(name) for name in names]
        return cls(names, os.path.join(str(root), ""), sizes, view, pool)

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, index: np.ndarray, noise: str | None = None) -> np.ndarray:
        """See `Lazy.read`."""
        names, paths = self._names(index, noise), self._paths[index].tolist()
        cuts = pieces(len(paths))
        found, start = np.empty((len(paths), *self.view.shape), np.uint8), 0
        for images in self._pool.map("read", [(paths[cut], self.view, names[cut]) for cut in cuts]):
            found[start : start + len(images)] = images
            start += len(images)
        return found

    def take(self, index: np.ndarray) -> Files:
        """See `Lazy.take`."""
        return Files(self._paths[index], self._root, self.sizes[index], self.view, self._pool)

    def resized(self, size: int) -> Files:
        """Return the images resized to this height and width."""
        if self.view.size == (size, size):
            return self
        view = self.view._replace(size=(size, size), resized=True)
        return Files(self._paths, self._root, self.sizes, view, self._pool)

    def measured(self) -> Measured:
        """Decode all images once, whole ones if crops are taken."""
        paths, whole = self._paths.tolist(), self.view._replace(crops=False)
        digest, total, transparent = digest_of(self.dtype), np.zeros((self.view.channels, 256), np.int64), 0
        for images, own, count in self._pool.map("measure", ((paths[cut], whole) for cut in pieces(len(paths)))):
            digest.update(images.data)
            total += own
            transparent += count
        return Measured(digest.hexdigest(), total, transparent)

    @property
    def workers(self) -> int:
        """Number of processes that decode."""
        return self._pool.workers

    @property
    def fingerprint(self) -> str:
        """A hash of names and sizes of the files, for their contents would take hours to read."""
        digest = hashlib.sha256(repr(self.view).encode())
        for path, size in zip(self._paths.tolist(), self.sizes.tolist(), strict=True):
            digest.update(os.fsencode(str(path).removeprefix(self._root)) + b"\0%d\0" % size)
        return digest.hexdigest()


class Crops(Lazy):
    """Crops of images in memory."""

    def __init__(self, images: np.ndarray) -> None:
        super().__init__(View(images.shape[1:3], images.shape[3], crops=True))
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: np.ndarray, noise: str | None = None) -> np.ndarray:
        """See `Lazy.read`."""
        from PIL import Image

        names, found = self._names(index, noise), np.empty((len(index), *self.view.shape), np.uint8)
        for row, image in enumerate(self._images[index]):
            for channel in range(self.view.channels):  # Pillow knows no images of two channels
                band = Image.fromarray(image[..., channel])
                found[row, ..., channel] = framed(band, self.view, names[row] if names else None)
        return found

    @property
    def fingerprint(self) -> str:
        """See `Lazy.fingerprint`."""
        return hashlib.sha256(np.ascontiguousarray(self._images).data).hexdigest()

    def take(self, index: np.ndarray) -> Crops:
        """See `Lazy.take`."""
        return Crops(self._images[index])


def digest_of(dtype: np.dtype) -> Any:
    """The beginning of an array's fingerprint, to be updated with its bytes."""
    return hashlib.sha256(dtype.str.encode())


def _size(path: Source) -> int:
    if isinstance(path, Encoded):
        return len(path.data)
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise BadFileError(f"cannot read {path}: {error.strerror}") from error
