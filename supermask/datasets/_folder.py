"""Image files in folders, one per class: which there are, which are left out, and their pixels as a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from supermask.datasets._check import check, counted, note, reading
from supermask.datasets._files import images_of
from supermask.datasets._images import SUFFIXES, Source
from supermask.errors import BadFileError
from supermask.types import Dataset, Split

Labelled = tuple[Sequence[Source], np.ndarray]
"""Images, and their labels as int32."""


def read_images(
    root: Path,
    parts: Mapping[str, Labelled],
    classes: Sequence[str],
    image_size: int | None,
    crops: bool = False,
    grey: bool = True,
) -> Dataset:
    """Decode the images of all splits; lines on stderr say what was turned, resized or not read.

    Mean and std are those of train.

    Args:
        root: for the messages.
        parts: train, test and, if there is one, validation.
        classes: what the labels 0, 1, ... are called.
        image_size: height and width of the images, if theirs differ. Images of one size keep it.
        crops: whether training sees random crops.
        grey: whether images become grey if all of them are; otherwise they are RGB.

    Raises:
        BadFileError: an image is unreadable, or sizes differ and `image_size` is None.
    """
    inputs, found, moments = images_of(
        root, {part: paths for part, (paths, _) in parts.items()}, image_size, crops, grey
    )
    splits = {part: Split(images, parts[part][1]) for part, images in inputs.items()}
    train, test = splits["train"], splits["test"]
    dataset = check(Dataset(train, test, tuple(classes), *moments, splits.get("validation")), root)
    for remark, count in found.remarks.items():
        if count:
            note(f"{root}: {counted(count, 'image')}: {remark}")
    if len(found.sizes) > 1:
        made = "cropped" if crops else "resized"
        note(f"{root}: images of {len(found.sizes):,} sizes are {made} to {image_size}x{image_size}")
    return dataset


def by_class(classes: Mapping[str, Sequence[Path]]) -> Labelled:
    """The images of all classes with their labels, class by class."""
    counts = [len(files) for files in classes.values()]
    return [path for files in classes.values() for path in files], np.repeat(
        np.arange(len(classes), dtype=np.int32), counts
    )


@dataclass
class LeftOut:
    """Counts what is not read.

    Attributes:
        counts: (noun, where it lies) -> number.
        suffixes: those of the files that are no images.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    suffixes: set[str] = field(default_factory=set)

    def add(self, path: Path) -> None:
        """Count a file or folder that is not looked into."""
        kind = "folder" if path.is_dir() else "file"
        if is_hidden(path):
            self.counts[f"hidden {kind}", ""] += 1
        elif kind == "folder":
            self.counts["other folder", ""] += 1
        elif path.suffix.lower() in SUFFIXES:
            self.counts["image", " outside of the class folders"] += 1
        else:
            self.counts["other file", ""] += 1
            self.suffixes.add(path.suffix.lower() or "no suffix")

    def say(self, root: Path) -> None:
        """Write one line on stderr, if anything was left out."""
        parts = [counted(count, noun) + where for (noun, where), count in sorted(self.counts.items())]
        kinds = sorted(self.suffixes)
        more = f" ({', '.join(kinds[:8])}{', ...' * (len(kinds) > 8)})" if kinds else ""
        if parts:
            note(f"{root}: left out {', '.join(parts)}{more}")


def class_files(folder: Path, left_out: LeftOut) -> dict[str, list[Path]]:
    """Class name -> images, both sorted."""
    entries = entries_of(folder)
    classes = [path for path in entries if path.is_dir() and not is_hidden(path)]
    if not classes:
        raise BadFileError(f"{folder} has no class folders; images belong in {folder / 'CLASS'}")
    for path in entries:
        if path not in classes:
            left_out.add(path)
    found = {path.name: sorted(images_below(path, left_out, ())) for path in classes}
    for path in classes:
        if not found[path.name]:
            raise BadFileError(f"{path} has no images; {', '.join(sorted(SUFFIXES))} are read")
    return found


def images_below(folder: Path, left_out: LeftOut, above: tuple[Path, ...]) -> Iterator[Path]:
    """The images in a folder and in all folders below."""
    above = (*above, folder.resolve())
    for path in entries_of(folder):
        if path.is_dir() and not is_hidden(path) and path.resolve() not in above:  # a link may lead back
            yield from images_below(path, left_out, above)
        elif path.suffix.lower() in SUFFIXES and not path.is_dir() and not is_hidden(path):
            yield path
        else:
            left_out.add(path)


def entries_of(folder: Path) -> list[Path]:
    with reading(folder):
        return sorted(folder.iterdir())


def is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name == "__MACOSX"  # that one holds hidden files of the same names
