"""CIFAR-10 and CIFAR-100 in the official layouts, binary or python, unpacked or not, and as Keras and torchvision do.

Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009;
https://www.cs.toronto.edu/~kriz/cifar.html describes both layouts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from supermask.datasets._check import check, no_argument, note_shape, reading
from supermask.datasets._fetch import Remote, fetch
from supermask.datasets._pickle import load_dict
from supermask.datasets._tar import read_members
from supermask.errors import BadFileError
from supermask.types import Dataset, Split

_LIMIT = 1 << 28  # bytes of one file; the largest official one has 155 MB


@dataclass(frozen=True)
class Layout:
    """One of the two official layouts: the folder, the archive that it comes in, and the files inside.

    Attributes:
        train: files with an equal number of training images each.
    """

    folder: str
    archive: str
    train: tuple[str, ...]
    test: str
    pickled: bool

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are read."""
        return (*self.train, self.test)

    @property
    def places(self) -> tuple[str, ...]:
        """Where the files lie under a folder of datasets: the folder or the archive, also by the names of Keras."""
        target = f"{self.folder}-target"  # of Keras 3
        stems = (self.archive.removesuffix(".tar.gz"), self.folder, target)
        archives = [stem + suffix for stem in stems for suffix in (".tar.gz", ".tgz", ".tar")]
        return tuple(dict.fromkeys((self.folder, f"{target}/{self.folder}", *archives, f"{target}_archive")))


@dataclass(frozen=True)
class CifarSource:
    """A dataset in the files of CIFAR. Call it to load the dataset.

    Attributes:
        name: as registered; the files are searched for in data_dir, also if it is the folder of a layout itself, and in
            data_dir/name.
        classes: names of the labels 0, 1, ...
        train, test: shape of the official images, (n, height, width, 3). Files with another number of images are read
            as well.
        mean, std: as published.
        layouts: in order of preference; the first one is fetched.
        mirrors: URLs that the archive's name is appended to, tried in this order.
        remote: the archive of the first layout.
        extras: files of the first layout that are unpacked for other programs but not read here.
        label_bytes: the number of classes of each label byte of a binary record; the last one is the label.
        label_key: the key of the labels in a pickle.
    """

    name: str
    classes: tuple[str, ...]
    train: tuple[int, int, int, int]
    test: tuple[int, int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    layouts: tuple[Layout, ...]
    mirrors: tuple[str, ...]
    remote: Remote
    extras: tuple[str, ...]
    label_bytes: tuple[int, ...]
    label_key: str

    def __call__(self, data_dir: Path, argument: str = "") -> Dataset:
        """Read the official files (binary or python, unpacked or not); fetch them first if they are nowhere.

        Returns:
            Images uint8 (n, height, width, 3), labels int32 (n,). A line on stderr says where their number is not the
            official one.

        Raises:
            UsageError: an argument was given.
            BadFileError: a file is damaged, or all are missing and cannot be fetched. Files that exist are never
                replaced.
        """
        no_argument(self.name, argument)
        with reading(data_dir):
            found = self._find(Path(data_dir))
        layout, path = found or (self.layouts[0], self._fetched(Path(data_dir)))
        archived = _members(layout, path) if path.is_file() else None
        if archived is None:
            self._check_complete(layout, path)

        def read(name: str) -> Split:
            data = _read(path / name) if archived is None else archived[name]
            return (self._parse_pickle if layout.pickled else self._parse_binary)(data, path / name)

        parts = [read(name) for name in layout.train]
        for name, part in zip(layout.train, parts, strict=True):
            if len(part) != len(parts[0]):  # nothing else shows that a file was cut between two records
                raise BadFileError(
                    f"{path / name} has {len(part)} images and {layout.train[0]} {len(parts[0])}; "
                    "all batches must have the same number"
                )
        train = Split(np.concatenate([part.inputs for part in parts]), np.concatenate([part.targets for part in parts]))
        dataset = check(Dataset(train, read(layout.test), self.classes, self.mean, self.std), path)
        note_shape(f"{path}: the train split", "split", train.inputs.shape, self.train)
        note_shape(f"{path}: the test split", "split", dataset.test.inputs.shape, self.test)
        return dataset

    @property
    def official(self) -> tuple[Remote, ...]:
        """The file whose SHA-256 is known."""
        return (self.remote,)

    def where(self, data_dir: Path, argument: str = "") -> list[Path]:
        """The files that are read, or the archive; [] if they have to be fetched."""
        no_argument(self.name, argument)
        with reading(data_dir):
            found = self._find(Path(data_dir))
        if found is None:
            return []
        layout, path = found
        if path.is_file():
            return [path]
        self._check_complete(layout, path)
        return [path / name for name in layout.files]

    def fetch(self, data_dir: Path, argument: str = "") -> list[Path]:
        """Download the archive, which is nowhere, and unpack it."""
        self._fetched(Path(data_dir))
        return self.where(data_dir, argument)

    def _find(self, data_dir: Path) -> tuple[Layout, Path] | None:
        """The first archive, or folder with any of the files, else the first folder, whose lack is then reported."""
        own = data_dir / self.name
        existing = [
            (layout, base / name)
            for base in (data_dir, own)
            for layout in self.layouts
            for name in layout.places
            if (base / name).exists()
        ]
        existing += [
            (layout, base)
            for base in (data_dir, own)
            for layout in self.layouts
            if all((base / name).is_file() for name in layout.files)
        ]
        if not existing and own.exists():
            names = ", ".join(name for layout in self.layouts for name in (layout.folder, layout.archive))
            raise BadFileError(
                f"{own} has none of {names}; put one of them there, or remove it to have the dataset fetched"
            )
        holding = [
            (layout, path)
            for layout, path in existing
            if path.is_file() or any((path / name).is_file() for name in layout.files)
        ]
        return next(iter(holding + existing), None)

    def _fetched(self, data_dir: Path) -> Path:
        layout = self.layouts[0]

        def unpack(folder: Path) -> None:
            archive = folder / self.remote.name
            for name, data in _members(layout, archive, self.extras).items():
                (folder / name).write_bytes(data)
            archive.unlink()

        target = data_dir / layout.folder
        return fetch(self.name, self.mirrors, (self.remote,), target, into=data_dir, unpack=unpack)

    def _check_complete(self, layout: Layout, folder: Path) -> None:
        names = ", ".join(layout.files)
        missing = [name for name in layout.files if not (folder / name).is_file()]
        if len(missing) == len(layout.files):
            raise BadFileError(f"{folder} has none of {names}; put them there, or remove it to have them fetched")
        if missing:
            raise BadFileError(f"{folder} lacks {', '.join(missing)}; {self.name} needs all of {names}")

    def _parse_binary(self, data: bytes, path: Path) -> Split:
        pixels = math.prod(self.train[1:])
        record = len(self.label_bytes) + pixels
        if not data or len(data) % record:
            raise BadFileError(f"{path} has {len(data)} bytes; it must be records of {record} bytes, at least one")
        table = np.frombuffer(data, np.uint8).reshape(-1, record)
        for column, classes in enumerate(self.label_bytes):
            _check_labels(table[:, column], classes, path)
        return self._split(table[:, -pixels:], table[:, len(self.label_bytes) - 1])

    def _parse_pickle(self, data: bytes, path: Path) -> Split:
        content = load_dict(data, path)
        for key in ("data", self.label_key):
            if key not in content:
                keys = ", ".join(sorted(content))[:100]
                raise BadFileError(f"{path} has no {key!r} among its keys ({keys}); is it a file of {self.name}?")
        rows, labels = content["data"], content[self.label_key]
        pixels = math.prod(self.train[1:])
        if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape[1:] != (pixels,) or not len(rows):
            raise BadFileError(f"{path}: 'data' must be a uint8 array of shape (n, {pixels}), n at least 1")
        if not isinstance(labels, list) or not all(type(label) is int for label in labels):
            raise BadFileError(f"{path}: {self.label_key!r} must be a list of whole numbers")
        if len(labels) != len(rows):
            raise BadFileError(f"{path} has {len(rows)} images and {len(labels)} labels; the counts must agree")
        # As Python objects first: a label may be too large for any integer type of NumPy.
        _check_labels(np.array(labels, object), len(self.classes), path)
        return self._split(rows, np.array(labels, np.int32))

    def _split(self, rows: np.ndarray, labels: np.ndarray) -> Split:
        """Images with the channels last, from rows of a red, a green and a blue plane each."""
        height, width, channels = self.train[1:]
        images = rows.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
        return Split(np.ascontiguousarray(images), labels.astype(np.int32))


def _read(path: Path) -> bytes:
    with reading(path):
        size = path.stat().st_size
        if size > _LIMIT:
            raise BadFileError(f"{path} has {size} bytes, more than the limit of {_LIMIT}")
        return path.read_bytes()


def _members(layout: Layout, archive: Path, extras: Sequence[str] = ()) -> dict[str, bytes]:
    wanted = {f"{layout.folder}/{name}": name for name in (*layout.files, *extras)}
    found = {wanted[member]: data for member, data in read_members(archive, wanted).items()}
    missing = [member for member, name in wanted.items() if name not in found and name not in extras]
    if missing:
        raise BadFileError(f"{archive} lacks {', '.join(missing)}")
    return found


def _check_labels(labels: np.ndarray, classes: int, path: Path) -> None:
    bad = next((label for label in (labels.min(), labels.max()) if not 0 <= label < classes), None)
    if bad is not None:
        raise BadFileError(f"{path} has the label {str(bad)[:20]}; labels go from 0 to {classes - 1}")
