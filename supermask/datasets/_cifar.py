"""CIFAR-10 and CIFAR-100 in the official layouts: binary or python, unpacked or still in the archive.

Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009;
https://www.cs.toronto.edu/~kriz/cifar.html describes both layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from supermask.datasets._check import check, no_argument, reading
from supermask.datasets._fetch import Remote, fetch
from supermask.datasets._pickle import load_dict
from supermask.datasets._tar import read_members
from supermask.errors import BadFileError
from supermask.types import Dataset, Split

_PIXELS = 3 * 32 * 32
_LIMIT = 1 << 28  # bytes of one file; the largest official one has 155 MB


@dataclass(frozen=True)
class Layout:
    """One of the two official layouts: the folder, the archive it comes in, and the files inside."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: str
    pickled: bool


@dataclass(frozen=True)
class CifarSource:
    """Where one dataset's files are.

    Attributes:
        name: as registered; files are looked for in data_dir and in data_dir/name.
        classes: names of the labels 0, 1, ...
        mean, std: as published.
        layouts: in order of preference; the first one is fetched.
        mirrors: URLs that the archive's name is appended to.
        remote: the archive of the first layout.
        extras: files of the first layout that are kept for other programs but not read.
        label_bytes: the number of classes of each label byte of a binary record; the last one is the label.
        label_key: the key of the labels in a pickle.
    """

    name: str
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    layouts: tuple[Layout, ...]
    mirrors: tuple[str, ...]
    remote: Remote
    extras: tuple[str, ...]
    label_bytes: tuple[int, ...]
    label_key: str


def load_cifar(source: CifarSource, data_dir: Path, argument: str = "") -> Dataset:
    """Images uint8 (n, 32, 32, 3) and labels int32 (n,), fetched if they are nowhere.

    Raises:
        UsageError: an argument was given.
        BadFileError: a file is damaged, or all are missing and cannot be fetched. Existing files are never replaced.
    """
    no_argument(source.name, argument)
    with reading(data_dir):
        found = _find(source, data_dir)
    layout, path = found or (source.layouts[0], _fetch(source, data_dir))
    read = _opener(layout, path, source)
    parse = _parse_pickle if layout.pickled else _parse_binary
    parts = [parse(read(name), path / name, source) for name in layout.train]
    for name, part in zip(layout.train, parts, strict=True):
        if len(part) != len(parts[0]):  # the only trace of a file that was cut between two records
            first = f"{layout.train[0]} {len(parts[0])}"
            raise BadFileError(
                f"{path / name} has {len(part)} images and {first}; all batches must have the same number"
            )
    train = Split(np.concatenate([part.images for part in parts]), np.concatenate([part.labels for part in parts]))
    test = parse(read(layout.test), path / layout.test, source)
    return check(Dataset(train, test, source.classes, source.mean, source.std), path)


def _find(source: CifarSource, data_dir: Path) -> tuple[Layout, Path] | None:
    """The first folder or archive that holds anything, else the first that exists, which is then an error to report."""
    own = data_dir / source.name
    there = [
        (layout, base / name)
        for base in (data_dir, own)
        for layout in source.layouts
        for name in (layout.folder, layout.archive)
        if (base / name).exists()
    ]
    holding = [(layout, path) for layout, path in there if path.is_file() or _holds(path, (*layout.train, layout.test))]
    if not there and own.exists():
        names = ", ".join(name for layout in source.layouts for name in (layout.folder, layout.archive))
        raise BadFileError(
            f"{own} has none of {names}; put one of them there, or remove it to have the dataset fetched"
        )
    return next(iter(holding + there), None)


def _fetch(source: CifarSource, data_dir: Path) -> Path:
    layout = source.layouts[0]

    def unpack(folder: Path) -> None:
        archive = folder / source.remote.name
        for name, data in _members(layout, archive, source.extras).items():
            (folder / name).write_bytes(data)
        archive.unlink()

    target = data_dir / layout.folder
    return fetch(source.name, source.mirrors, (source.remote,), target, into=data_dir, unpack=unpack)


def _opener(layout: Layout, path: Path, source: CifarSource) -> Callable[[str], bytes]:
    """What reads one file of the layout, whose presence is checked here."""
    names = (*layout.train, layout.test)
    if path.is_file():
        return _members(layout, path).__getitem__
    missing = [name for name in names if not (path / name).is_file()]
    if len(missing) == len(names):
        raise BadFileError(f"{path} has none of {', '.join(names)}; put them there, or remove it to have them fetched")
    if missing:
        raise BadFileError(f"{path} lacks {', '.join(missing)}; {source.name} needs all of {', '.join(names)}")

    def read(name: str) -> bytes:
        with reading(path / name):
            size = (path / name).stat().st_size
            if size > _LIMIT:
                raise BadFileError(f"{path / name} has {size} bytes, more than the limit of {_LIMIT}")
            return (path / name).read_bytes()

    return read


def _members(layout: Layout, archive: Path, extras: Sequence[str] = ()) -> dict[str, bytes]:
    wanted = {f"{layout.folder}/{name}": name for name in (*layout.train, layout.test, *extras)}
    found = {wanted[member]: data for member, data in read_members(archive, wanted).items()}
    missing = [member for member, name in wanted.items() if name not in found and name not in extras]
    if missing:
        raise BadFileError(f"{archive} lacks {', '.join(missing)}")
    return found


def _holds(folder: Path, names: Sequence[str]) -> bool:
    return any((folder / name).is_file() for name in names)


def _parse_binary(data: bytes, path: Path, source: CifarSource) -> Split:
    record = len(source.label_bytes) + _PIXELS
    if not data or len(data) % record:
        raise BadFileError(f"{path} has {len(data)} bytes; it must be records of {record} bytes, at least one")
    table = np.frombuffer(data, np.uint8).reshape(-1, record)
    for column, classes in enumerate(source.label_bytes):
        _check_labels(table[:, column], classes, path)
    return _split(table[:, -_PIXELS:], table[:, len(source.label_bytes) - 1])


def _parse_pickle(data: bytes, path: Path, source: CifarSource) -> Split:
    content = load_dict(data, path)
    for key in ("data", source.label_key):
        if key not in content:
            keys = ", ".join(sorted(content))[:100]
            raise BadFileError(f"{path} has no {key!r} among its keys ({keys}); is it a file of {source.name}?")
    pixels, given = content["data"], content[source.label_key]
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.shape[1:] != (_PIXELS,)
        or not len(pixels)
    ):
        raise BadFileError(f"{path}: 'data' must be a uint8 array of shape (n, {_PIXELS}), n at least 1")
    if not isinstance(given, list) or not all(type(label) is int for label in given):
        raise BadFileError(f"{path}: {source.label_key!r} must be a list of whole numbers")
    if len(given) != len(pixels):
        raise BadFileError(f"{path} has {len(pixels)} images and {len(given)} labels; the counts must agree")
    # As Python objects first: a label may be too large for any integer type of NumPy.
    _check_labels(np.array(given, object), len(source.classes), path)
    return _split(pixels, np.array(given, np.int32))


def _check_labels(labels: np.ndarray, classes: int, path: Path) -> None:
    bad = next((label for label in (labels.min(), labels.max()) if not 0 <= label < classes), None)
    if bad is not None:
        raise BadFileError(f"{path} has the label {str(bad)[:20]}; labels go from 0 to {classes - 1}")


def _split(pixels: np.ndarray, labels: np.ndarray) -> Split:
    """Rows of a red, a green and a blue plane as images with the channels last."""
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Split(np.ascontiguousarray(images), labels.astype(np.int32))
