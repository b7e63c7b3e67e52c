"""The datasets that there are: what each holds, where it lies, whether its files are whole. Needs no JAX."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from supermask import registry
from supermask.config import SearchConfig
from supermask.data.source import offline
from supermask.data.splits import default_data_dir, find_path, read_dataset
from supermask.datasets._check import note
from supermask.datasets._fetch import Remote
from supermask.errors import BadFileError, UsageError
from supermask.types import Split

_MANY = 200_000
"""Files of a folder whose sizes are added up; counting millions takes minutes."""


@dataclass(frozen=True)
class Entry:
    """What is known of a dataset without reading it.

    Attributes:
        name: as `--dataset` takes it, with what follows a colon: `npz:PATH`.
        train, test: number of official images; None if that depends on the file.
        image: height, width and channels; None if they differ.
        paths: the files or folders that would be read; none if it is not here.
        bytes: their size; None for none, or for too many.
        is_fetched, is_made: whether it is downloaded where it is missing, or has no files and is made when it is used.
    """

    name: str
    train: int | None
    test: int | None
    image: tuple[int, ...] | None
    classes: int | None
    paths: tuple[Path, ...]
    bytes: int | None
    is_fetched: bool
    is_made: bool


@dataclass(frozen=True)
class Report:
    """What verifying a dataset found.

    Attributes:
        splits: name of the split -> examples, shape (of one), labels (lowest, highest) and per_class (fewest, most).
        official: files that have the SHA-256 of the official ones.
    """

    name: str
    paths: tuple[Path, ...]
    classes: int
    splits: dict[str, dict[str, Any]]
    official: tuple[Path, ...]


def entry(name: str, data_dir: Path | None = None) -> Entry:
    """Look up a built-in dataset by its registered name; a folder that lacks files counts as not there, with a note."""
    module, constants = registry.load("datasets", name), registry.describe("datasets", name).constants
    source, argument = module.load, str(constants.get("ARGUMENT", ""))
    train, test = (getattr(source, part.lower(), None) or constants.get(part) or (None,) for part in ("TRAIN", "TEST"))
    paths: tuple[Path, ...] = ()
    if not argument or argument.startswith("["):
        try:
            paths = tuple(where(name, data_dir))
        except BadFileError as error:
            note(str(error))
    return Entry(
        name=_with_argument(name, argument),
        train=train[0],
        test=test[0],
        image=tuple(train[1:]) or None,
        classes=len(source.classes) if hasattr(source, "classes") else constants.get("NUM_CLASSES"),
        paths=paths,
        bytes=size_of(paths),
        is_fetched=hasattr(source, "fetch"),
        is_made=_lookup(name) is None and argument != "path",
    )


def _with_argument(name: str, argument: str) -> str:
    """How a dataset is named: npz:PATH, medmnist:NAME, svhn[:extra]."""
    if argument.startswith("["):
        return f"{name}[:{argument[1:]}"
    return f"{name}:{argument.upper()}" if argument else name


def where(name: str, data_dir: Path | None = None) -> list[Path]:
    """The files or folders that a dataset is read from; [] if it is not there.

    Raises:
        UsageError: the name is unknown, or of a dataset of the user's own.
        BadFileError: the path in the name does not exist, or a folder lacks some of the files.
    """
    registry.check_name("datasets", name)
    if registry.is_own("datasets", name):
        raise UsageError(f"only the code of {name} knows where it lies; `supermask data verify {name}` reads it")
    path = find_path(name, data_dir)
    if path is not None:
        return [path]
    look, argument = _lookup(name), name.partition(":")[2]
    if look is None and registry.describe("datasets", name).constants.get("ARGUMENT") == "path":
        raise UsageError(f"dataset {name} needs the path of your own data: {name}:PATH")
    return look(data_dir or default_data_dir(), argument) if look else []


def _lookup(name: str) -> Callable[[Path, str], list[Path]] | None:
    """The function of a dataset that finds its files; None for one that is named by a path, or made when it is used."""
    module = registry.load("datasets", name)
    look: Any = getattr(module.load, "where", None) or getattr(module, "where", None)
    return look


def found(name: str, data_dir: Path | None = None) -> list[Path]:
    """As `where`, for a dataset that has to be there.

    Raises:
        UsageError: it has no files.
        BadFileError: it is not; the message says how to get it.
    """
    paths = where(name, data_dir)
    if not paths and _lookup(name) is None:
        raise UsageError(f"dataset {name} has no files: it is made when it is used")
    source, folder = registry.load("datasets", name).load, data_dir or default_data_dir()
    if not paths and hasattr(source, "fetch"):
        raise BadFileError(f"{name} is not in {folder}; `supermask data fetch {name}` gets it")
    if not paths:
        source(folder, name.partition(":")[2])  # says where it comes from
    return paths


def fetch(name: str, data_dir: Path | None = None) -> tuple[list[Path], bool]:
    """The files of a dataset, and whether they were downloaded now.

    Raises:
        BadFileError: it cannot be fetched, or is not fetched; the message says where it comes from.
    """
    paths = where(name, data_dir)
    source = registry.load("datasets", name).load
    if paths or not hasattr(source, "fetch"):
        return paths or found(name, data_dir), False
    return source.fetch(data_dir or default_data_dir(), name.partition(":")[2]), True


def verify(name: str, data_dir: Path | None = None, image_size: int | None = None) -> Report:
    """Read all of a dataset with every check; compare official files with their SHA-256. Nothing is downloaded.

    Raises:
        UsageError: a size for a dataset whose images all have the same.
        BadFileError: it is missing or damaged.
    """
    registry.check_name("datasets", name)
    is_own = registry.is_own("datasets", name)
    if image_size and not getattr(registry.load("datasets", name), "RESIZES", False):
        raise UsageError(f"images of {name} are not read at another size: leave out --image-size")
    has_files = not is_own and (_lookup(name) or where(name, data_dir))
    paths = found(name, data_dir) if has_files else []
    with offline():
        dataset = read_dataset(SearchConfig(dataset=name, image_size=image_size), data_dir)
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    splits = {part: _facts(split, len(dataset.classes)) for part, split in parts.items() if split is not None}
    known = () if is_own else getattr(registry.load("datasets", name).load, "official", ())
    official = _official(paths, known)
    return Report(name, tuple(paths), len(dataset.classes), splits, official)


def places(paths: Sequence[Path]) -> list[Path]:
    """The file if there is one, else the folders of the files."""
    return list(paths) if len(paths) == 1 else list(dict.fromkeys(path.parent for path in paths))


def size_of(paths: Iterable[Path]) -> int | None:
    """Bytes of files and of all that lies in folders; None if there is nothing or too much."""
    total, count = 0, 0
    for path in paths:
        inside = ((folder, name) for folder, _, names in os.walk(path, followlinks=True) for name in names)
        for folder, name in inside if path.is_dir() else [(str(path.parent), path.name)]:
            count += 1
            if count > _MANY:
                return None
            with suppress(OSError):  # a link that leads nowhere
                total += os.path.getsize(os.path.join(folder, name))
    return total if count else None


def _facts(split: Split, classes: int) -> dict[str, Any]:
    labels = split.targets[split.targets >= 0]  # those below 0 count for nothing
    counts = np.bincount(labels, minlength=classes)
    return {
        "examples": len(split),
        "shape": list(split.inputs.shape[1:]),
        "labels": [int(labels.min()), int(labels.max())],
        "per_class": [int(counts.min()), int(counts.max())],
    }


def _official(paths: Iterable[Path], known: Iterable[Remote]) -> tuple[Path, ...]:
    """The files that are as published.

    Raises:
        BadFileError: a file has the size of the official one but another content.
    """
    remotes = {file.name: file for file in known}
    same = []
    for path in paths:
        remote = remotes.get(path.name)
        if remote is None:
            continue
        size = path.stat().st_size
        if size != remote.size:
            note(f"{path} is not the official file: it has {size:,} bytes, and that has {remote.size:,}")
            continue
        if _sha256(path) != remote.sha256:
            raise BadFileError(
                f"{path} is damaged: it has the size of the official file but another SHA-256; "
                "remove it and fetch it again"
            )
        same.append(path)
    return tuple(same)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
