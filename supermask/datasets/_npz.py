"""Arrays of an .npz file, found by the names that people give them and read without trusting the file."""

from __future__ import annotations

import math
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from supermask.datasets._arrays import images_of, labels_of
from supermask.datasets._check import counted, note, reading
from supermask.datasets._parts import PARTS, with_test
from supermask.errors import BadFileError, one_line
from supermask.types import Split

_IMAGES = ("x", "image", "images", "img", "imgs", "data", "input", "inputs", "feature", "features")
_LABELS = ("y", "label", "labels", "target", "targets")
_KERAS = ("x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy")  # these go before other names for the same
_LIMIT = 1 << 33  # bytes of one array
_EXPANSION = 1032  # the most bytes that one deflated byte can become
_KNOWN = {
    name: (part, kind)
    for part, aliases in PARTS.items()
    for kind, words in (("images", _IMAGES), ("labels", _LABELS))
    for word in words
    for alias in aliases
    for name in (word + alias, alias + word)
}


def read_npz(path: Path) -> tuple[dict[str, Split], tuple[str, ...]]:
    """The splits train, test and, if there is one, validation, and the names of the classes.

    Without a test split, validation is the test split. Lines on stderr say what was left out or changed.

    Raises:
        BadFileError: the file is missing or damaged, lacks an array, or has one of another type or shape.
    """
    with _opened(path) as archive:
        names = _find(archive.namelist(), path)
        arrays = {name: _array(archive, path, name) for pair in names.values() for name in pair}
    images = images_of({x: arrays[x] for x, _ in names.values()}, path)
    labels, classes = labels_of({y: arrays[y] for _, y in names.values()}, path)
    for x, y in names.values():
        if len(images[x]) != len(labels[y]):
            raise BadFileError(
                f"{path}: {x} has {len(images[x])} images and {y} {len(labels[y])} labels; the counts must agree"
            )
    return {part: Split(images[x], labels[y]) for part, (x, y) in names.items()}, classes


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes that the arrays of an .npz file announce, by name.

    Raises:
        BadFileError: the file is missing or damaged.
    """
    found = {}
    with _opened(path) as archive:
        for member in archive.namelist():
            if member.endswith(".npy"):
                name = member.removesuffix(".npy")
                with archive.open(member) as stream:
                    found[name], _ = _header(stream, f"{path}: {name}")
    return found


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    with reading(path), path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield archive
        # RuntimeError: an encrypted member. NotImplementedError: a compression that Python lacks, derived from it.
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, MemoryError) as error:
            raise BadFileError(f"{path} is not an .npz file that can be read: {one_line(error)[:200]}") from error


def _find(members: Iterable[str], path: Path) -> dict[str, tuple[str, str]]:
    """Split -> the names of its images and labels, train first."""
    found: dict[tuple[str, str], str] = {}
    left_out: list[str] = []
    for member in sorted(members, key=lambda member: (member not in _KERAS, member)):
        name = member.removesuffix(".npy")
        role = _KNOWN.get(re.sub("[^a-z]", "", name.lower())) if name != member else None
        if role is None or f"{found.get(role)}.npy" in _KERAS:
            left_out.append(name)
        elif role in found:
            raise BadFileError(f"{path} has {found[role]} and {name}; keep one of them as the {role[1]} of {role[0]}")
        else:
            found[role] = name
    parts = {"train", *(part for part, _ in found)}
    parts |= set() if "validation" in parts else {"test"}
    for part in PARTS:
        for kind, letter in (("images", "x"), ("labels", "y")):
            if part in parts and (part, kind) not in found:
                has = ", ".join(sorted([*found.values(), *left_out]))[:200] or "nothing"
                raise BadFileError(
                    f"{path} has no array '{letter}_{PARTS[part][-1]}' (it has {has}); "
                    "x_train, y_train, x_test, y_test are needed"
                )
    names = {part: (found[part, "images"], found[part, "labels"]) for part in PARTS if part in parts}
    if left_out:
        note(f"{path}: left out {counted(len(left_out), 'array')}: {', '.join(left_out)[:200]}")
    return with_test(names, path, names.get("validation", [""])[0])


def _array(archive: zipfile.ZipFile, path: Path, name: str) -> np.ndarray:
    """One array, read by NumPy once the size that it announces has been found to be there."""
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of headers written by Python 2
        shape, dtype = _header(stream, f"{path}: {name}")
        if dtype.kind not in "biufUS":
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
