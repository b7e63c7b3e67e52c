"""Source: where the data of a config lies, and what is in it, whatever it is called. Needs no JAX."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from supermask import registry
from supermask.config import Config
from supermask.data.splits import find_path, read_dataset
from supermask.datasets._lazy import Files, digest_of
from supermask.runs import code
from supermask.runs.content import FILES, Content, shortened
from supermask.runtime import memory
from supermask.types import Dataset

CONTENTS = 8 << 30
"""Bytes of files up to which all of them are read for their fingerprint; above, names and sizes must do."""

_CHUNK = 1 << 20
_OFFLINE = "SUPERMASK_OFFLINE"
_DATA = ".parquet"
"""The ending of files that are data even where no folder lies around them."""


class Source:
    """The data and the user's own code behind the names in a config. Each is read when it is first asked for, and once.

    Attributes:
        config: the config; its dataset is what is read.
        data_dir: folder of datasets; None for the user's cache folder.
    """

    def __init__(self, config: Config, data_dir: Path | None = None, dataset: str | None = None) -> None:
        self.config = config.replace(dataset=dataset) if dataset else config
        self.data_dir = data_dir
        self._dataset: Dataset | None = None

    @cached_property
    def code(self) -> Content:
        """Fingerprints of a network and a method of the user's own."""
        names = {kind: str(getattr(self.config, kind, "")) for kind in ("arch", "method")}
        return {
            f"{kind} code": code.fingerprint(name) for kind, name in names.items() if registry.is_own(f"{kind}s", name)
        }

    @cached_property
    def files(self) -> Content:
        """The fingerprint of the file or folder that the dataset's name ends in; {} for other datasets.

        Raises:
            BadFileError: it is missing.
        """
        path = find_path(self.config.dataset, self.data_dir)
        return {} if path is None else {FILES: of_files(path)}

    @cached_property
    def data(self) -> Content:
        """Fingerprints of what the dataset's arrays hold, before images are resized and a split is held out.

        Raises:
            BadFileError: the dataset is missing or damaged.
        """
        self._dataset = self._dataset or read_dataset(self.config, self.data_dir)
        return of_dataset(self._dataset)

    @property
    def named(self) -> Content:
        """What tells runs of the same config apart in the names of their folders; {} if all is built in."""
        own = registry.is_own("datasets", self.config.dataset)
        return self.code | (self.data if own else self.files)

    @property
    def content(self) -> Content:
        """What goes into a ticket: the fingerprints of data and code."""
        return self.data | self.code

    def take(self) -> Dataset:
        """Return the dataset and forget it, for what is made of it takes as much memory."""
        assert self.data
        dataset = self._dataset or read_dataset(self.config, self.data_dir)
        self._dataset = None
        return dataset


def of_dataset(dataset: Dataset) -> Content:
    """Fingerprints of the splits, the classes, what images are normalised by, and the task. CIFAR-10 takes 0.1 s.

    Of images that were not all decoded, the names and sizes of their files count.
    """
    found: Content = {}
    for name in ("train", "validation", "test"):
        split = getattr(dataset, name)
        images: Any = None if split is None else split.inputs
        if isinstance(images, Files):  # names and sizes are comparable with names and sizes alone
            known = "images" if images.content else "files"
            found[f"{name} {known}"] = _fingerprint(images.shape, images.content or images.fingerprint)
        else:
            found[f"{name} images"] = "none" if images is None else _of_array(images)
        found[f"{name} labels"] = "none" if split is None else _of_array(split.targets)
    names = "\n".join(dataset.classes).encode("utf-8", "surrogateescape")
    found["classes"] = f"{len(dataset.classes)} {shortened(hashlib.sha256(names).hexdigest())}"
    found |= {"means": _numbers(dataset.mean), "deviations": _numbers(dataset.std), "task": dataset.task}
    if registry.is_own("tasks", dataset.task):
        found["task code"] = code.fingerprint(dataset.task)
    return found


def numbers(text: str) -> tuple[float, ...]:
    """The means or deviations that a fingerprint holds."""
    return tuple(map(float, text.split(","))) if text else ()


def _numbers(values: Sequence[float]) -> str:
    return ",".join(repr(float(value)) for value in values)


def _of_array(array: np.ndarray) -> str:
    array = np.ascontiguousarray(array)
    digest = digest_of(array.dtype)
    digest.update(array.reshape(-1).view(np.uint8).data)
    return _fingerprint(array.shape, digest.hexdigest())


def _fingerprint(shape: Sequence[int], digest: str) -> str:
    return f"{'x'.join(map(str, shape))} {shortened(digest)}"


def of_files(path: Path) -> str:
    """The fingerprint of a file, or of the folders in a folder: relative paths and contents, not dates.

    Left out are hidden files and folders, run folders, and what lies directly in the folder, beside its splits, unless
    it is a split itself. Of files of more than CONTENTS bytes together, sizes stand for contents.
    """
    digest = hashlib.sha256()
    files = sorted(_below(path)) if path.is_dir() else [("", str(path))]
    sizes = [_size(file) for _, file in files] if path.is_dir() else []
    large = sum(sizes) > CONTENTS
    for i, (name, file) in enumerate(files):
        digest.update(b"%d %s " % (len(name), os.fsencode(name)) + (b"%d" % sizes[i] if large else _hash(file)))
    return shortened(digest.hexdigest())


def _below(root: Path) -> Iterator[tuple[str, str]]:
    """(relative path, path) of the files in the folders below; as text, since there may be a million."""
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen or "metrics.jsonl" in files:  # a loop of links, or a run folder
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = Path(folder).relative_to(root).as_posix()
        for name in files:
            if not name.startswith(".") and (relative != "." or name.endswith(_DATA)):
                yield f"{relative}/{name}", os.path.join(folder, name)


def _size(path: str) -> int:
    with suppress(OSError):
        return os.stat(path).st_size
    return 0


def _hash(path: str) -> bytes:
    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:  # a Path for each file would take longer
            while block := file.read(_CHUNK):
                digest.update(block)
    except OSError:  # if it is needed, whoever reads it says so
        return b"unreadable"
    return digest.digest()


def offline() -> AbstractContextManager[None]:
    """Let no dataset be fetched meanwhile."""
    return memory.using(_OFFLINE, "1")
