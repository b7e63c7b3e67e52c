"""Cropped images with labels in MATLAB files, as SVHN has them, one file per split.

Source of the layout: http://ufldl.stanford.edu/housenumbers (format 2): X is uint8 (height, width, channels, n), and y
has the labels 1 to 10, where 10 stands for the digit 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from supermask.datasets._check import check, note_shape, reading, times
from supermask.datasets._fetch import Remote, fetch
from supermask.datasets._stats import mean_std
from supermask.errors import BadFileError, UsageError, one_line
from supermask.types import Dataset, Split

_EXPANSION = 1032  # the most bytes that one deflated byte can become


@dataclass(frozen=True)
class MatSource:
    """A dataset in MATLAB files. Call it to load the dataset.

    Attributes:
        name: as registered; data_dir/name is the first folder to be searched, and the one that is fetched into.
        classes: names of the labels; the last label in the files stands for the first of them.
        train, test: shape of the official images, (n, height, width, channels). Other numbers are read as well.
        files: train, test.
        more: further training images, asked for by `name:extra`; they are fetched into a folder of their own.
        mirrors: URLs that a file's name is appended to, tried in this order.
        folders: further folders to search, relative to data_dir; `.` is data_dir itself.
        mean, std: None, they are computed from the training images.
    """

    name: str
    classes: tuple[str, ...]
    train: tuple[int, int, int, int]
    test: tuple[int, int, int, int]
    files: tuple[Remote, Remote]
    more: Remote
    mirrors: tuple[str, ...]
    folders: tuple[str, ...] = ()
    mean: None = None
    std: None = None

    def __call__(self, data_dir: Path, argument: str = "") -> Dataset:
        """Read the files; fetch them first if they are in none of the folders. `argument` is "" or "extra".

        Returns:
            Images uint8 (n, height, width, channels), labels int32 (n,), mean and std of the training images. A line on
            stderr says where the number of images is not the official one.

        Raises:
            UsageError: another argument was given.
            BadFileError: a file is damaged, or missing and cannot be fetched. Files that exist are never replaced.
        """
        paths = self.where(data_dir, argument) or self.fetch(data_dir, argument)
        splits = [self._read(path) for path in paths]
        for path, split, official in zip(paths, splits, (self.train, self.test), strict=False):
            note_shape(str(path), "file", split.inputs.shape, official)
        train, test, *extra = splits
        if extra:
            train = Split(*(np.concatenate(both) for both in zip(*map(_pair, (train, *extra)), strict=True)))
        return check(Dataset(train, test, self.classes, *mean_std(train.inputs)), paths[0].parent)

    @property
    def official(self) -> tuple[Remote, ...]:
        """The files whose SHA-256 is known."""
        return (*self.files, self.more)

    def where(self, data_dir: Path, argument: str = "") -> list[Path]:
        """The files that are read, train and test first; [] if one has to be fetched.

        Raises:
            UsageError: an unknown argument.
            BadFileError: a folder has some of the files but not all.
        """
        self._check_argument(argument)
        data_dir = Path(data_dir)
        places = [data_dir / name for name in (self.name, *self.folders)]
        names = [file.name for file in self.files]
        with reading(data_dir):
            holding = [place for place in places if any((place / name).is_file() for name in names)]
            if not holding:
                return []
            lacking = [name for name in names if not (holding[0] / name).is_file()]
            if lacking:
                raise BadFileError(f"{holding[0]} lacks {', '.join(lacking)}; {self.name} needs {' and '.join(names)}")
            found = [holding[0] / name for name in names]
            if argument:
                more = [place / self.more.name for place in (holding[0], *places, self._beside(data_dir))]
                found += [path for path in more if path.is_file()][:1]
        return found if len(found) == len(names) + bool(argument) else []

    def fetch(self, data_dir: Path, argument: str = "") -> list[Path]:
        """Download what is missing, and return the files.

        Raises:
            BadFileError: it cannot be fetched.
        """
        self._check_argument(argument)
        data_dir = Path(data_dir)
        if not self.where(data_dir):
            fetch(self.name, self.mirrors, self.files, data_dir / self.name, into=data_dir / self.name)
        if not self.where(data_dir, argument):
            beside = self._beside(data_dir)
            fetch(f"{self.name}:{argument}", self.mirrors, (self.more,), beside, into=beside)
        return self.where(data_dir, argument)

    def _beside(self, data_dir: Path) -> Path:
        """Where further images are fetched into: a folder is fetched as a whole, and theirs may be there already."""
        return data_dir / f"{self.name}-extra"

    def _check_argument(self, argument: str) -> None:
        if argument not in ("", "extra"):
            raise UsageError(
                f"dataset {self.name} takes only 'extra' after a colon, got {self.name + ':' + argument!r}"
            )

    def _read(self, path: Path) -> Split:
        """One file; the shapes that it announces are looked at before anything is unpacked."""
        shape, last = self.train[1:], len(self.classes)
        content = _load(path, shape)
        images, labels = content["X"], content["y"].reshape(-1)
        if len(labels) != images.shape[3]:
            raise BadFileError(f"{path} has {images.shape[3]} images and {len(labels)} labels; the counts must agree")
        bad = labels[~np.isin(labels, np.arange(1, last + 1))]
        if len(bad):
            raise BadFileError(
                f"{path} has the label {bad[0]}; labels go from 1 to {last}, which stands for the digit 0"
            )
        return Split(np.ascontiguousarray(images.transpose(3, 0, 1, 2)), (labels % last).astype(np.int32))


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A MATLAB file for SciPy's readers; all that goes wrong in them is a BadFileError of one line."""
    with reading(path), path.open("rb") as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about odd variables, which are not read
                yield file
        except BadFileError:
            raise
        except NotImplementedError as error:
            raise BadFileError(
                f"{path} is a MATLAB file of version 7.3; the official files are of version 5"
            ) from error
        except Exception as error:  # the reader fails in all kinds of ways on bytes that are not a MATLAB file
            raise BadFileError(f"{path} is not a MATLAB file that can be read: {one_line(error)[:200]}") from error


def _load(path: Path, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    from scipy.io import loadmat, whosmat

    with opened(path) as file:
        announced = {name: dimensions for name, dimensions, _ in whosmat(file)}
        _check_announced(announced, shape, path)
        file.seek(0)
        content = loadmat(file, variable_names=("X", "y"))
    for name, array in content.items():
        if name in announced and name in "Xy" and array.shape != announced[name]:
            raise BadFileError(f"{path}: {name} announces {times(announced[name])} and holds {times(array.shape)}")
    if content["X"].dtype != np.uint8 or content["y"].dtype.kind not in "uif":
        raise BadFileError(f"{path}: X is {content['X'].dtype} and y {content['y'].dtype}; X must be uint8, y numbers")
    return content


def _check_announced(announced: dict[str, tuple[int, ...]], shape: tuple[int, ...], path: Path) -> None:
    lacking = [name for name in ("X", "y") if name not in announced]
    if lacking:
        has = ", ".join(announced)[:100] or "nothing"
        raise BadFileError(
            f"{path} lacks {' and '.join(lacking)} (it has {has}); it must have images X and labels y: is it whole?"
        )
    images, labels = announced["X"], announced["y"]
    if images[:-1] != shape or not images[-1]:
        raise BadFileError(f"{path}: X has the shape {times(images)}; it must be {times(shape)}xN, N at least 1")
    if len(labels) != 2 or min(labels) != 1:
        raise BadFileError(f"{path}: y has the shape {times(labels)}; it must be Nx1")
    size, limit = int(np.prod(images)), _EXPANSION * path.stat().st_size
    if size > limit:
        raise BadFileError(f"{path}: X announces {size} bytes; at most {limit} can be read from this file")


def _pair(split: Split) -> tuple[np.ndarray, np.ndarray]:
    return split.inputs, split.targets
