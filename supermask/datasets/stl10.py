"""Photographs: 5,000 + 8,000 colour images, 96x96, 10 classes; the 100,000 images without labels are not used.

Source: Coates, Lee, Ng, "An analysis of single-layer networks in unsupervised feature learning", AISTATS 2011;
https://cs.stanford.edu/~acoates/stl10.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from supermask.datasets._check import check, counted, no_argument, note, note_shape, reading
from supermask.datasets._missing import missing
from supermask.datasets._stats import mean_std
from supermask.datasets._tar import read_members
from supermask.errors import BadFileError
from supermask.types import Dataset, Split

EPOCHS = 100
AUGMENT = "crop-flip"

TRAIN = (5_000, 96, 96, 3)
TEST = (8_000, 96, 96, 3)
NUM_CLASSES = 10

_FOLDER = "stl10_binary"
_ARCHIVES = (f"{_FOLDER}.tar.gz", f"{_FOLDER}.tgz", f"{_FOLDER}.tar")
_ORIGIN = f"http://ai.stanford.edu/~acoates/stl10/{_ARCHIVES[0]}"
_NEEDED = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")
_NAMES = "class_names.txt"
_UNUSED = "unlabeled_X.bin"
_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
_LIMIT = 1 << 32  # bytes of the whole archive's content; the official one has 3.1 GB
_IMAGE = math.prod(TRAIN[1:])


def load(data_dir: Path, argument: str = "") -> Dataset:
    """Read the official binary files, unpacked or not.

    An image is a red, a green and a blue plane, each column by column; labels are 1 to 10. Lines on stderr say that
    images without labels are left out, and where the number of images is not the official one.

    Returns:
        Images uint8 (n, 96, 96, 3), labels int32 (n,), mean and std of the training images.

    Raises:
        UsageError: an argument was given.
        BadFileError: the files are missing, or one is damaged.
    """
    found = where(data_dir, argument)
    if not found:
        raise missing("stl10", Path(data_dir), _ARCHIVES[0], f"{_ORIGIN} (2.6 GB)")
    root, read = _opened(found)
    splits = {part: _split(root, part, read) for part in ("train", "test")}
    train, test = splits["train"], splits["test"]
    dataset = check(Dataset(train, test, _class_names(root / _NAMES, read), *mean_std(train.inputs)), root)
    for part, official in (("train", TRAIN), ("test", TEST)):
        note_shape(f"{root}: the {part} split", "split", splits[part].inputs.shape, official)
    return dataset


def where(data_dir: Path, argument: str = "") -> list[Path]:
    """The files that are read, or the archive; [] if there are none.

    Raises:
        BadFileError: a folder lacks some of the files.
    """
    no_argument("stl10", argument)
    bases = [Path(data_dir), Path(data_dir) / "stl10"]
    with reading(Path(data_dir)):
        for folder in (*(base / _FOLDER for base in bases), *bases):
            there = [name for name in _NEEDED if (folder / name).is_file()]
            if there and len(there) < len(_NEEDED):
                lacking = ", ".join(name for name in _NEEDED if name not in there)
                raise BadFileError(f"{folder} lacks {lacking}; stl10 needs all of {', '.join(_NEEDED)}")
            if there:
                more = [folder / name for name in (_NAMES,) if (folder / name).is_file()]
                return [folder / name for name in _NEEDED] + more
        return [path for base in bases for name in _ARCHIVES if (path := base / name).is_file()][:1]


def _opened(found: list[Path]) -> tuple[Path, Callable[[Path], bytes | None]]:
    """The folder or archive, and a function that reads a file of it, or gives None for one that is not there."""
    if len(found) > 1:
        unused = found[0].with_name(_UNUSED)
        if unused.is_file():
            count = unused.stat().st_size // _IMAGE
            note(f"{found[0].parent}: left out {_UNUSED}, {counted(count, 'image')} without labels")
        return found[0].parent, _read
    archive = found[0]
    held = read_members(archive, [f"{_FOLDER}/{name}" for name in (*_NEEDED, _NAMES)], _LIMIT)
    lacking = [name for name in _NEEDED if f"{_FOLDER}/{name}" not in held]
    if lacking:
        raise BadFileError(f"{archive} lacks {', '.join(f'{_FOLDER}/{name}' for name in lacking)}")
    note(f"{archive}: only images with labels are read, not {_UNUSED}")
    return archive, lambda path: held.get(f"{_FOLDER}/{path.name}")


def _read(path: Path) -> bytes | None:
    with reading(path):
        return path.read_bytes() if path.is_file() else None


def _split(root: Path, part: str, read: Callable[[Path], bytes | None]) -> Split:
    pixels, marks = root / f"{part}_X.bin", root / f"{part}_y.bin"
    data, labels = read(pixels) or b"", np.frombuffer(read(marks) or b"", np.uint8)
    if not data or len(data) % _IMAGE:
        raise BadFileError(f"{pixels} has {len(data)} bytes; it must be images of {_IMAGE} bytes, at least one")
    columns = np.frombuffer(data, np.uint8).reshape(-1, 3, 96, 96)  # image, plane, column, row
    if len(columns) != len(labels):
        raise BadFileError(f"{pixels} has {len(columns)} images and {marks.name} {len(labels)} labels; they must agree")
    bad = labels[(labels < 1) | (labels > NUM_CLASSES)]
    if len(bad):
        raise BadFileError(f"{marks} has the label {bad[0]}; labels go from 1 to {NUM_CLASSES}")
    return Split(np.ascontiguousarray(columns.transpose(0, 3, 2, 1)), labels.astype(np.int32) - 1)


def _class_names(path: Path, read: Callable[[Path], bytes | None]) -> tuple[str, ...]:
    """Those of the file, or the official ones if it is not there."""
    data = read(path)
    if data is None:
        return _CLASSES
    names = tuple(data.decode("utf-8", "replace").split())
    if len(names) != NUM_CLASSES:
        raise BadFileError(
            f"{path} has {counted(len(names), 'name')}; it must have one for each of {NUM_CLASSES} classes"
        )
    return names
