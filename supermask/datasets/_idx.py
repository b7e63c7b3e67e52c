"""The IDX format of MNIST and of the sets made after it: four files, gzipped or not.

Source of the format: http://yann.lecun.com/exdb/mnist/ (LeCun, Cortes, Burges).
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from supermask.datasets._check import check, no_argument, reading
from supermask.datasets._fetch import Remote, fetch
from supermask.datasets._stats import mean_std
from supermask.errors import BadFileError
from supermask.types import Dataset, Split

_LIMIT = 1 << 30  # bytes of one file's content; MNIST has 47 MB, the largest set made after it 0.5 GB
_CHUNK = 1 << 20
_DTYPES = {0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class IdxSource:
    """Where one dataset's four files are.

    Attributes:
        name: as registered; also the folder in data_dir.
        torchvision: the folder that torchvision makes, with `raw` inside.
        classes: names of the labels 0, 1, ...
        mirrors: URLs that a file's name is appended to.
        files: train images, train labels, test images, test labels.
        mean, std: as published; computed from train where None.
        loose: whether files that lie in data_dir itself are meant (several sets use the same four names).
    """

    name: str
    torchvision: str
    classes: tuple[str, ...]
    mirrors: tuple[str, ...]
    files: tuple[Remote, Remote, Remote, Remote]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    loose: bool = False


def load_idx(source: IdxSource, data_dir: Path, argument: str = "") -> Dataset:
    """Images uint8 (n, height, width, 1) and labels int32 (n,) of the four files, fetched if they are nowhere.

    Raises:
        UsageError: an argument was given.
        BadFileError: a file is damaged, or all are missing and cannot be fetched. Existing files are never replaced.
    """
    no_argument(source.name, argument)
    with reading(data_dir):
        folder = _find(source, data_dir)
    if folder is None:
        folder = data_dir / source.name
        fetch(source.name, source.mirrors, source.files, folder, into=folder)
    paths = _paths(source, folder)
    train, test = (_split(paths[at], paths[at + 1], len(source.classes)) for at in (0, 2))
    mean, std = source.mean, source.std
    if mean is None or std is None:
        mean, std = mean_std(train.images)
    return check(Dataset(train, test, source.classes, mean, std), folder)


def read_idx(path: Path, rank: int) -> np.ndarray:
    """The uint8 array of one IDX file, gzipped or not (told by its first bytes).

    Reads at most one byte more than the header announces, so that no compressed file can fill the memory.

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
        raise BadFileError(f"{path} holds no {'pixels' if rank == 3 else 'labels'}: {_times(shape)}")
    if size > _LIMIT:
        raise BadFileError(f"{path} announces {size} bytes ({_times(shape)}), more than the limit of {_LIMIT}")
    data = bytearray()
    while len(data) <= size and (chunk := file.read(min(_CHUNK, size + 1 - len(data)))):
        data += chunk
    if len(data) < size:
        raise BadFileError(f"{path} is truncated: it announces {size} bytes ({_times(shape)}) and holds {len(data)}")
    if len(data) > size:
        raise BadFileError(f"{path} has bytes after the {size} that its header announces ({_times(shape)})")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _wrong_magic(magic: bytes, rank: int) -> str:
    if len(magic) < 4:
        return f"is truncated: it holds {len(magic)} bytes"
    if magic[:2] == b"\0\0" and magic[2] in _DTYPES:
        return f"holds {_DTYPES[magic[2]]} (type byte 0x{magic[2]:02x}), not unsigned bytes (0x08)"
    if magic[:3] == b"\0\0\x08":
        return f"has {magic[3]} dimensions, not {rank}: {'labels' if magic[3] == 1 else 'images'} in the wrong place?"
    return f"has the wrong magic number {magic.hex(' ')}"


def _split(images_path: Path, labels_path: Path, classes: int) -> Split:
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise BadFileError(
            f"{images_path} has {len(images)} images and {labels_path.name} {len(labels)} labels; the counts must agree"
        )
    if labels.max() >= classes:
        raise BadFileError(f"{labels_path} has the label {labels.max()}; labels go from 0 to {classes - 1}")
    return Split(images[..., None], labels.astype(np.int32))


def _find(source: IdxSource, data_dir: Path) -> Path | None:
    """The first folder with any of the files, else the first that exists, which is then an error to report."""
    folders = [data_dir / source.name, data_dir / source.torchvision / "raw"]
    loose = [data_dir] if source.loose else []
    holding = [folder for folder in folders + loose if any(_path(folder, file.name) for file in source.files)]
    return next(iter(holding + [folder for folder in folders if folder.exists()]), None)


def _paths(source: IdxSource, folder: Path) -> list[Path]:
    found = [_path(folder, file.name) for file in source.files]
    names = [file.name for file in source.files]
    missing = [name for name, path in zip(names, found, strict=True) if path is None]
    if len(missing) == len(names):
        raise BadFileError(
            f"{folder} has none of {', '.join(names)}; put them there, or remove it to have them fetched"
        )
    if missing:
        raise BadFileError(f"{folder} lacks {', '.join(missing)}; {source.name} needs all of {', '.join(names)}")
    return [path for path in found if path is not None]


def _path(folder: Path, name: str) -> Path | None:
    """The file as it is distributed or unpacked."""
    return next((path for path in (folder / name, folder / name.removesuffix(".gz")) if path.is_file()), None)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape)
