"""Images in folders, one per class: `folder:PATH` with train/CLASS/..., test/CLASS/... and, if there is one, val.

Source: your own folder, in the layout of torchvision's ImageFolder and Keras' image_dataset_from_directory.
"""

from __future__ import annotations

from pathlib import Path

from supermask.datasets._check import reading
from supermask.datasets._folder import LeftOut, by_class, class_files, entries_of, is_hidden, read_images
from supermask.datasets._parts import PARTS, with_test
from supermask.errors import BadFileError, UsageError
from supermask.runtime.places import expand
from supermask.types import Dataset

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
    left_out = LeftOut()
    folders = _parts(root, left_out)
    parts = {part: class_files(folder, left_out) for part, folder in folders.items()}
    _check_classes(root, folders, parts)
    labelled = {part: by_class(classes) for part, classes in parts.items()}
    dataset = read_images(root, labelled, tuple(parts["train"]), image_size, crops)
    left_out.say(root)
    return dataset


def _parts(root: Path, left_out: LeftOut) -> dict[str, Path]:
    """Split -> its folder, in the order of PARTS."""
    entries = entries_of(root)
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
            others = [path.name for path in entries if path.is_dir() and not is_hidden(path)][:5]
            has = f"it has {', '.join(others)}; " if others else ""
            raise BadFileError(
                f"{root / part} is missing; {has}the folders train and test are needed, each with a folder per class"
            )
    return with_test(found, root, found["validation"].name if "validation" in found else "")


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
