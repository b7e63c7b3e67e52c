"""The IDX format of MNIST and of the datasets modelled on it: four files, gzipped or not, or Keras' .npz file.

Source of the format: http://yann.lecun.com/exdb/mnist/ (LeCun, Cortes, Burges).
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from supermask.datasets._check import check, no_argument, note_shape, reading, times
from supermask.datasets._fetch import Remote, fetch
from supermask.datasets._npz import read_npz
from supermask.datasets._stats import mean_std
from supermask.errors import BadFileError
from supermask.types import Dataset, Split

_LIMIT = 1 << 30  # bytes of one file's content; MNIST has 47 MB, the largest dataset modelled on it 0.5 GB
_CHUNK = 1 << 20
_DTYPES = {0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class IdxSource:
    """A dataset in four IDX files. Call it to load the dataset.

    Attributes:
        name: as registered; data_dir/name is the first folder to be searched, and the one that is fetched into.
        classes: names of the labels 0, 1, ...
        train, test: shape of the official images, (n, height, width, 1). Files with other images are read as well.
        files: train images, train labels, test images, test labels.
        mirrors: URLs that a file's name is appended to, tried in this order.
        folders: further folders to search, relative to data_dir; `.` is data_dir itself. Both are also searched for in
            data_dir/name, and where data_dir ends as they begin.
        mean, std: as published; computed from the training images where None.
    """

    name: str
    classes: tuple[str, ...]
    train: tuple[int, int, int, int]
    test: tuple[int, int, int, int]
    files: tuple[Remote, Remote, Remote, Remote]
    mirrors: tuple[str, ...]
    folders: tuple[str, ...] = ()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __call__(self, data_dir: Path, argument: str = "") -> Dataset:
        """Read the four files, or name.npz; fetch the files first if they are in none of the folders.

        Returns:
            Images uint8 (n, height, width, 1), labels int32 (n,). A line on stderr says where their number or size is
            not the official one.

        Raises:
            UsageError: an argument was given.
            BadFileError: a file is damaged, or all are missing and cannot be fetched. Files that exist are never
                replaced.
        """
        no_argument(self.name, argument)
        with reading(data_dir):
            found = self._find(Path(data_dir))
        if found is None:
            found = Path(data_dir) / self.name
            self.fetch(data_dir)
        files = None if found.suffix == ".npz" else self._paths(found)
        splits = _read(files, len(self.classes)) if files else read_npz(found)[0]
        train, test = splits["train"], splits["test"]
        mean, std = self.mean, self.std
        if mean is None or std is None:
            mean, std = mean_std(train.inputs)
        dataset = check(Dataset(train, test, self.classes, mean, std, splits.get("validation")), found)
        for part, path, official in (("train", 0, self.train), ("test", 2, self.test)):
            where, noun = (str(files[path]), "file") if files else (f"{found}: the {part} split", "split")
            note_shape(where, noun, splits[part].inputs.shape, official)
        return dataset

    @property
    def official(self) -> tuple[Remote, ...]:
        """The files whose SHA-256 is known."""
        return self.files

    def where(self, data_dir: Path, argument: str = "") -> list[Path]:
        """The files that are read; [] if they have to be fetched."""
        no_argument(self.name, argument)
        with reading(data_dir):
            found = self._find(Path(data_dir))
        return [] if found is None else [found] if found.suffix == ".npz" else self._paths(found)

    def fetch(self, data_dir: Path, argument: str = "") -> list[Path]:
        """Download the four files, which are nowhere."""
        target = Path(data_dir) / self.name
        fetch(self.name, self.mirrors, self.files, target, into=target)
        return self.where(data_dir, argument)

    def _find(self, data_dir: Path) -> Path | None:
        """The first folder with any of the files, or the .npz file, or an empty folder: `_paths` says what it lacks."""
        folders = self._folders(data_dir)
        names = (self.name, self.name.replace("-", "_"))
        archives = (folder / f"{name}.npz" for folder in (data_dir, data_dir / self.name) for name in names)
        candidates = (
            *(folder for folder in folders if any(_path(folder, file.name) for file in self.files)),
            *(archive for archive in archives if archive.is_file()),
            *(folder for folder in folders if folder != data_dir and folder.exists()),
        )
        return next(iter(candidates), None)

    def _folders(self, data_dir: Path) -> list[Path]:
        """Where the files may lie, the usual places first."""
        places = [data_dir / name for name in (self.name, *self.folders)]
        places += [data_dir / self.name / name for name in self.folders]
        whole = data_dir.absolute().parts
        for parts in (Path(name).parts for name in (self.name, *self.folders)):
            places += [data_dir.joinpath(*parts[k:]) for k in range(1, len(parts) + 1) if whole[-k:] == parts[:k]]
        return list(dict.fromkeys(places))

    def _paths(self, folder: Path) -> list[Path]:
        names = [file.name for file in self.files]
        found = {name: path for name in names if (path := _path(folder, name))}
        missing = [name for name in names if name not in found]
        if not found:
            raise BadFileError(
                f"{folder} has none of {', '.join(names)}; put them there, or remove it to have them fetched"
            )
        if missing:
            raise BadFileError(f"{folder} lacks {', '.join(missing)}; {self.name} needs all of {', '.join(names)}")
        return list(found.values())


def read_idx(path: Path, rank: int) -> np.ndarray:
    """The uint8 array of one IDX file, gzipped or not (its first bytes tell).

    Reads at most one byte more than the header announces, so no compressed file can fill the memory.

    Raises:
        BadFileError: not an IDX file of unsigned bytes of this rank, truncated, longer than announced, or corrupt.
    """
    with reading(path), path.open("rb") as raw:
        zipped = raw.read(2) == _GZIP
        raw.seek(0)
        try:
            if not zipped:
                return _parse(raw, path, rank)
            with gzip.GzipFile(fileobj=raw) as file:
                return _parse(file, path, rank)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BadFileError(f"{path} is a damaged gzip file: {error}") from error


def _parse(file: IO[bytes] | gzip.GzipFile, path: Path, rank: int) -> np.ndarray:
    magic = file.read(4)
    expected = bytes((0, 0, 8, rank))
    if magic != expected:
        raise BadFileError(
            f"{path} {_wrong_magic(magic, rank)}; an IDX file of this kind begins with {expected.hex(' ')}"
        )
    header = file.read(4 * rank)
    if len(header) < 4 * rank:
        raise BadFileError(f"{path} is truncated: it ends within its header")
    shape = struct.unpack(f">{rank}I", header)
    size = math.prod(shape)
    if not size:  # NumPy refuses some shapes with a 0 and takes others
        raise BadFileError(f"{path} holds no {'pixels' if rank == 3 else 'labels'}: its shape is {times(shape)}")
    if size > _LIMIT:
        raise BadFileError(f"{path} announces {size} bytes ({times(shape)}), more than the limit of {_LIMIT}")
    data = bytearray()
    while len(data) <= size and (chunk := file.read(min(_CHUNK, size + 1 - len(data)))):
        data += chunk
    if len(data) < size:
        raise BadFileError(f"{path} is truncated: it announces {size} bytes ({times(shape)}) and holds {len(data)}")
    if len(data) > size:
        raise BadFileError(f"{path} has bytes after the {size} that its header announces ({times(shape)})")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _wrong_magic(magic: bytes, rank: int) -> str:
    if len(magic) < 4:
        return f"is truncated: it holds {len(magic)} bytes"
    if magic[:2] == b"\0\0" and magic[2] in _DTYPES:
        return f"holds {_DTYPES[magic[2]]} (type byte 0x{magic[2]:02x}), not unsigned bytes (0x08)"
    if magic[:3] == b"\0\0\x08":
        return f"has {magic[3]} dimensions, not {rank}: {'labels' if magic[3] == 1 else 'images'} in the wrong place?"
    return f"has the wrong magic number {magic.hex(' ')}"


def _read(paths: Sequence[Path], classes: int) -> dict[str, Split]:
    return {"train": _split(paths[0], paths[1], classes), "test": _split(paths[2], paths[3], classes)}


def _split(images_path: Path, labels_path: Path, classes: int) -> Split:
    images, labels = read_idx(images_path, 3)[..., None], read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise BadFileError(
            f"{images_path} has {len(images)} images and {labels_path.name} {len(labels)} labels; the counts must agree"
        )
    if labels.max() >= classes:
        raise BadFileError(f"{labels_path} has the label {labels.max()}; labels go from 0 to {classes - 1}")
    return Split(images, labels.astype(np.int32))


def _path(folder: Path, name: str) -> Path | None:
    """The file as it is distributed, or unpacked, or under a name that unpackers make of it.

    `gunzip -N` and 7-Zip write train-images.idx3-ubyte, Kaggle a folder of the file's name around it.
    """
    usual = [folder / name, folder / name.removesuffix(".gz")]
    found = next((path for path in usual if path.is_file()), None)
    if found or not folder.is_dir():
        return found
    with reading(folder):
        alike = sorted(path for path in folder.iterdir() if _letters(path.name) == _letters(name))
        inside = [path for other in alike if other.is_dir() for path in sorted(other.iterdir())]
    return next((path for path in alike + inside if path.is_file() and _letters(path.name) == _letters(name)), None)


def _letters(name: str) -> str:
    """Letters and digits of a file's name, without .gz."""
    return re.sub("[^a-z0-9]", "", name.lower().removesuffix(".gz"))
