"""Images in folders, one per class: `folder:PATH` with train/CLASS/*.png|jpg|jpeg and test/CLASS/*.png|jpg|jpeg.

Source: your own folder, laid out as torchvision's ImageFolder and Keras' image_dataset_from_directory want it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from supermask.datasets._check import check, reading
from supermask.datasets._stats import mean_std
from supermask.errors import BadFileError, SupermaskError, UsageError, one_line
from supermask.types import Dataset, Split

EPOCHS = 30
AUGMENT = "none"

_SUFFIXES = (".png", ".jpg", ".jpeg")


def load(data_dir: Path, argument: str = "") -> Dataset:
    """The folder `argument`, a path of its own: `data_dir` is not looked at.

    Classes are the folders in train, sorted by name; images are sorted by name within them. Hidden files and files of
    other types are ignored. Images are grey if all of them are, else RGB. Mean and std are those of train.

    Returns:
        Images uint8 (n, height, width, 1 or 3), labels int32 (n,).

    Raises:
        UsageError: no path was given.
        BadFileError: a folder is missing, a class is empty or on one side only, an image is unreadable or of another
            size than the first.
    """
    if not argument:
        raise UsageError("dataset folder needs the path of a folder: folder:PATH")
    root = Path(argument).expanduser()
    with reading(root):
        if not root.is_dir():
            raise BadFileError(f"{root} {'is not a folder' if root.exists() else 'does not exist'}")
    parts = {part: _files(root / part) for part in ("train", "test")}
    classes = tuple(parts["train"])
    for one, other in (("train", "test"), ("test", "train")):
        odd = [name for name in parts[one] if name not in parts[other]]
        if odd:
            raise BadFileError(f"{root} has the class {odd[0]} in {one} but not in {other}; both need the same classes")
    paths = [path for files in parts.values() for images in files.values() for path in images]
    shape = _common_shape(paths)
    train, test = (_split(files, shape) for files in parts.values())
    return check(Dataset(train, test, classes, *mean_std(train.images)), root)


def _files(folder: Path) -> dict[str, list[Path]]:
    """Class name -> images, both sorted."""
    if not folder.is_dir():
        raise BadFileError(f"{folder} is missing: there must be folders train and test, each with a folder per class")
    with reading(folder):
        classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise BadFileError(f"{folder} has no class folders; images belong into {folder / 'CLASS'}")
    found = {}
    for path in classes:
        with reading(path):
            images = sorted(
                image
                for image in path.iterdir()
                if image.suffix.lower() in _SUFFIXES and not image.name.startswith(".")
            )
        if not images:
            raise BadFileError(f"{path} has no images ({', '.join(_SUFFIXES)})")
        found[path.name] = images
    return found


def _common_shape(paths: list[Path]) -> tuple[int, int, int]:
    """Height, width and channels of all the images, without decoding them."""
    first, grey = (0, 0), True
    for path in paths:
        with _image(path) as image:
            size = image.size
            grey = grey and image.mode in ("L", "1")
            if image.mode.startswith(("I", "F")):
                raise BadFileError(f"{path} has the mode {image.mode}, more than 8 bits per channel; 8 are read")
            image.verify()  # the checksums of a PNG, which decoding leaves out
        first = size if path == paths[0] else first
        if size != first:
            raise BadFileError(
                f"{path} is {size[0]}x{size[1]} pixels and {paths[0]} is {first[0]}x{first[1]}; "
                "all images must have one size"
            )
    return first[1], first[0], 1 if grey else 3


def _split(files: dict[str, list[Path]], shape: tuple[int, int, int]) -> Split:
    count = sum(len(paths) for paths in files.values())
    images, labels = np.empty((count, *shape), np.uint8), np.empty(count, np.int32)
    row = 0
    for label, paths in enumerate(files.values()):
        for path in paths:
            with _image(path) as image:
                images[row] = np.asarray(image.convert("L" if shape[2] == 1 else "RGB")).reshape(shape)
            labels[row] = label
            row += 1
    return Split(images, labels)


@contextmanager
def _image(path: Path) -> Iterator[Any]:
    """The opened image; whatever goes wrong with it is a bad file."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, which is not used
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Only these two decoders: Pillow looks at the content, and a .png may be something else entirely.
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                yield image
    except SupermaskError:
        raise
    except Exception as error:  # decoders raise nearly anything for damaged images
        raise BadFileError(f"cannot read the image {path}: {_reason(error, path)}") from error


def _reason(error: Exception, path: Path) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "it is neither PNG nor JPEG, or damaged"
    return one_line(error).replace(f": {str(path)!r}", "")[:200]
