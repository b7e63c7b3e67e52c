"""Images in folders, one per class: `folder:PATH` with train/CLASS/..., test/CLASS/... and, if there is one, val.

Source: your own folder, in the layout of torchvision's ImageFolder and Keras' image_dataset_from_directory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from supermask.datasets._check import check, counted, note, reading
from supermask.datasets._files import images_of
from supermask.datasets._images import SUFFIXES
from supermask.datasets._parts import PARTS, with_test
from supermask.errors import BadFileError, UsageError
from supermask.runtime.places import expand
from supermask.types import Dataset, Split

EPOCHS = 30
AUGMENT = "none"
RESIZES = True
CROPS = True
ARGUMENT = "path"


def load(data_dir: Path, argument: str = "", image_size: int | None = None, crops: bool = False) -> Dataset:
    """Read the folder at the path `argument`; `data_dir` is not used.

    Classes are the folders in train, sorted by name; the images of a class are those in its folder and in the folders
    below, sorted by path. Images are grey if all of them are, else RGB; they are turned as EXIF says, transparent
    pixels are put on white, and the first frame of many is read. Without a folder test, val is the test split. Mean
    and std are those of train. Lines on stderr say what was left out.

    Args:
        image_size: height and width of the images, if theirs differ. Images of one size keep it.
        crops: whether training sees random crops; images are then decoded when they are needed, as they are where they
            would not fit into memory.

    Returns:
        Images uint8 (n, height, width, 1 or 3), labels int32 (n,).

    Raises:
        UsageError: no path was given.
        BadFileError: a folder is missing, a class is empty or only in some of the splits, an image is unreadable, or
            sizes differ and `image_size` is None.
    """
    if not argument:
        raise UsageError("dataset folder needs the path of a folder: folder:PATH")
    root = expand(argument)
    with reading(root):
        if not root.is_dir():
            raise BadFileError(f"{root} {'is not a folder' if root.exists() else 'does not exist'}")
    left_out = _LeftOut()
    folders = _parts(root, left_out)
    parts = {part: _classes(folder, left_out) for part, folder in folders.items()}
    _check_classes(root, folders, parts)
    paths = {part: [path for files in classes.values() for path in files] for part, classes in parts.items()}
    inputs, found, moments = images_of(root, paths, image_size, crops)
    splits = {part: Split(images, _labels(parts[part])) for part, images in inputs.items()}
    train, test, classes = splits["train"], splits["test"], tuple(parts["train"])
    dataset = check(Dataset(train, test, classes, *moments, splits.get("validation")), root)
    left_out.say(root)
    for remark, count in found.remarks.items():
        if count:
            note(f"{root}: {counted(count, 'image')}: {remark}")
    if len(found.sizes) > 1:
        made = "cropped" if crops else "resized"
        note(f"{root}: images of {len(found.sizes):,} sizes are {made} to {image_size}x{image_size}")
    return dataset


@dataclass
class _LeftOut:
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
        if _is_hidden(path):
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


def _parts(root: Path, left_out: _LeftOut) -> dict[str, Path]:
    """Split -> its folder, in the order of PARTS."""
    entries = _entries(root)
    found = {}
    for part, names in PARTS.items():
        folders = [path for path in entries if path.is_dir() and path.name.lower() in names]
        if len(folders) > 1:
            raise BadFileError(f"{root} has {' and '.join(path.name for path in folders)}; keep one of them as {part}")
        if folders:
            found[part] = folders[0]
    for path in entries:
        if path not in found.values():
            left_out.add(path)
    for part in ("train", "test"):
        if part not in found and not (part == "test" and "validation" in found):
            others = [path.name for path in entries if path.is_dir() and not _is_hidden(path)][:5]
            has = f"it has {', '.join(others)}; " if others else ""
            raise BadFileError(
                f"{root / part} is missing; {has}the folders train and test are needed, each with a folder per class"
            )
    return with_test(found, root, found["validation"].name if "validation" in found else "")


def _classes(folder: Path, left_out: _LeftOut) -> dict[str, list[Path]]:
    """Class name -> images, both sorted."""
    entries = _entries(folder)
    classes = [path for path in entries if path.is_dir() and not _is_hidden(path)]
    if not classes:
        raise BadFileError(f"{folder} has no class folders; images belong in {folder / 'CLASS'}")
    for path in entries:
        if path not in classes:
            left_out.add(path)
    found = {path.name: sorted(_images(path, left_out, ())) for path in classes}
    for path in classes:
        if not found[path.name]:
            raise BadFileError(f"{path} has no images; {', '.join(sorted(SUFFIXES))} are read")
    return found


def _images(folder: Path, left_out: _LeftOut, above: tuple[Path, ...]) -> Iterator[Path]:
    """The images in a folder and in all folders below."""
    above = (*above, folder.resolve())
    for path in _entries(folder):
        if path.is_dir() and not _is_hidden(path) and path.resolve() not in above:  # a link may lead back
            yield from _images(path, left_out, above)
        elif path.suffix.lower() in SUFFIXES and not path.is_dir() and not _is_hidden(path):
            yield path
        else:
            left_out.add(path)


def _entries(folder: Path) -> list[Path]:
    with reading(folder):
        return sorted(folder.iterdir())


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name == "__MACOSX"  # that one holds hidden files of the same names


def _check_classes(root: Path, folders: dict[str, Path], parts: dict[str, dict[str, list[Path]]]) -> None:
    for part in parts:
        for one, other in (("train", part), (part, "train")):
            lacking = [name for name in parts[one] if name not in parts[other]]
            if lacking:
                more = f", and {len(lacking) - 1:,} more"
                raise BadFileError(
                    f"{root} has the class {lacking[0]} in {folders[one].name} but not in {folders[other].name}"
                    f"{more * (len(lacking) > 1)}; all splits need the same classes"
                )


def _labels(classes: dict[str, list[Path]]) -> np.ndarray:
    return np.repeat(np.arange(len(classes), dtype=np.int32), [len(files) for files in classes.values()])
