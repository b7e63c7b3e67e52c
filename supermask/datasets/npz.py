"""Arrays of an .npz file, named as Keras names them: `npz:PATH` with x_train, y_train, x_test, y_test.

Source: your own file, written by `numpy.savez(PATH, x_train=..., y_train=..., x_test=..., y_test=...)`. The mnist.npz
of Keras has this form.
"""

from __future__ import annotations

import math
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from supermask.datasets._check import check, reading
from supermask.datasets._stats import mean_std
from supermask.errors import BadFileError, UsageError, one_line
from supermask.runtime.places import expand
from supermask.types import Dataset, Split

EPOCHS = 30
AUGMENT = "none"

_LIMIT = 1 << 33  # bytes of one array
_EXPANSION = 1032  # the most bytes that one deflated byte can become
_MAX_CLASSES = 1 << 16


def load(data_dir: Path, argument: str = "") -> Dataset:
    """Read the file at the path `argument`; `data_dir` is not used.

    Images are uint8, or floats in [0, 1], which are rounded to uint8; their shape is (n, height, width) or (n, height,
    width, channels). Labels are whole numbers of any type, shape (n,) or (n, 1). The classes are '0', '1', ... up to
    the largest label of y_train. Mean and std are those of x_train.

    Returns:
        Images uint8 (n, height, width, channels), labels int32 (n,).

    Raises:
        UsageError: no path was given.
        BadFileError: the file is missing or damaged, lacks an array, or has one of another type or shape.
    """
    if not argument:
        raise UsageError("dataset npz needs the path of a file: npz:PATH")
    path = expand(argument)
    with reading(path), path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                train, test = (_split(archive, path, part) for part in ("train", "test"))
        # RuntimeError: an encrypted member. NotImplementedError: a compression that Python lacks, derived from it.
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, MemoryError) as error:
            raise BadFileError(f"{path} is not an .npz file that can be read: {one_line(error)[:200]}") from error
    classes = int(train.labels.max()) + 1
    dataset = Dataset(train, test, tuple(map(str, range(classes))), *mean_std(train.images))
    return check(dataset, path)


def _split(archive: zipfile.ZipFile, path: Path, part: str) -> Split:
    images = _images(_array(archive, path, f"x_{part}"), f"{path}: x_{part}")
    labels = _labels(_array(archive, path, f"y_{part}"), f"{path}: y_{part}")
    if len(images) != len(labels):
        raise BadFileError(
            f"{path}: x_{part} has {len(images)} images and y_{part} {len(labels)} labels; the counts must agree"
        )
    return Split(images, labels)


def _array(archive: zipfile.ZipFile, path: Path, name: str) -> np.ndarray:
    """One array, read by NumPy once the size that it announces has been found to be there."""
    if f"{name}.npy" not in archive.namelist():
        has = ", ".join(sorted(member.removesuffix(".npy") for member in archive.namelist()))[:200] or "nothing"
        raise BadFileError(f"{path} has no array {name!r} (it has {has}); x_train, y_train, x_test, y_test are needed")
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of headers written by Python 2
        shape, dtype = _header(stream, f"{path}: {name}")
        if dtype.kind not in "biuf":
            raise BadFileError(f"{path}: {name} has the type {dtype}; it must be an array of numbers")
        size = math.prod(shape) * dtype.itemsize
        held = member.file_size - stream.tell()
        if size != held:
            raise BadFileError(f"{path}: {name} announces {size} bytes of shape {shape} and holds {held}")
        # NumPy takes memory for all of an array before it reads it, and `held` is only what the archive says of itself.
        expansion = 1 if member.compress_type == zipfile.ZIP_STORED else _EXPANSION
        limit = min(_LIMIT, expansion * path.stat().st_size)
        if size > limit:
            raise BadFileError(f"{path}: {name} announces {size} bytes; at most {limit} can be read from this file")
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)


def _header(stream: IO[bytes], what: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type, from the header of an .npy file."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(stream)
        if version not in readers:
            raise ValueError(f"its version is {version}; plain arrays have (1, 0) or (2, 0)")
        shape, _, dtype = readers[version](stream)
        return shape, dtype
    except Exception as error:  # the header is Python source, and NumPy's parser fails on damaged ones in many ways
        raise BadFileError(f"{what} has a damaged .npy header: {one_line(error)[:200]}") from error


def _images(array: np.ndarray, what: str) -> np.ndarray:
    if array.ndim not in (3, 4):
        raise BadFileError(
            f"{what} has the shape {array.shape}; it must be (n, height, width) or (n, height, width, channels)"
        )
    if array.size == 0:
        raise BadFileError(f"{what} has the shape {array.shape}: it has no images")
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] > 4:
        raise BadFileError(f"{what} has the shape {array.shape}; channels come last: (n, height, width, channels)")
    if array.ndim == 3:
        array = array[..., None]
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind != "f":
        raise BadFileError(f"{what} is {array.dtype}; it must be uint8, or float from 0 to 1")
    images = np.empty(array.shape, np.uint8)
    for source, target in zip(array, images, strict=True):  # image by image, because a copy of all would be large
        if not (source.min() >= 0 and source.max() <= 1):  # also true of NaN
            raise BadFileError(f"{what} is {array.dtype} with values outside of [0, 1]; scale it, or store it as uint8")
        target[...] = np.rint(source * 255)
    return images


def _labels(array: np.ndarray, what: str) -> np.ndarray:
    if array.dtype.kind not in "iu":
        raise BadFileError(f"{what} is {array.dtype}; labels must be whole numbers")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise BadFileError(f"{what} has the shape {array.shape}; labels must be (n,) or (n, 1)")
    if len(array) and not (array.min() >= 0 and array.max() < _MAX_CLASSES):
        bad = array.min() if array.min() < 0 else array.max()
        raise BadFileError(
            f"{what} has the label {bad}; labels start at 0, and there are at most {_MAX_CLASSES} classes"
        )
    return array.astype(np.int32)
