"""Images in folders, one per class: `folder:PATH` with train/CLASS/*.png|jpg|jpeg and test/CLASS/*.png|jpg|jpeg.

Source: your own folder, in the layout of torchvision's ImageFolder and Keras' image_dataset_from_directory.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from supermask.datasets._check import check, reading, times
from supermask.datasets._stats import mean_std
from supermask.errors import BadFileError, SupermaskError, UsageError, one_line
from supermask.runtime.places import expand
from supermask.types import Dataset, Split

EPOCHS = 30
AUGMENT = "none"

_SUFFIXES = (".png", ".jpg", ".jpeg")


def load(data_dir: Path, argument: str = "") -> Dataset:
    """Read the folder at the path `argument`; `data_dir` is not used.

    Classes are the folders in train, sorted by name; the images of a class are sorted by name, too. Hidden files and
    files of other types are ignored. Images are grey if all of them are, else RGB. Mean and std are those of train.

    Returns:
        Images uint8 (n, height, width, 1 or 3), labels int32 (n,).

    Raises:
        UsageError: no path was given.
        BadFileError: a folder is missing, a class is empty or only in train or only in test, or an image is unreadable
            or differs from the first in size.
    """
    if not argument:
        raise UsageError("dataset folder needs the path of a folder: folder:PATH")
    root = expand(argument)
    with reading(root):
        if not root.is_dir():
            raise BadFileError(f"{root} {'is not a folder' if root.exists() else 'does not exist'}")
    parts = {part: _files(root / part) for part in ("train", "test")}
    classes = tuple(parts["train"])
    for one, other in (("train", "test"), ("test", "train")):
        for name in parts[one]:
            if name not in parts[other]:
                raise BadFileError(
                    f"{root} has the class {name} in {one} but not in {other}; both need the same classes"
                )
    paths = [path for files in parts.values() for images in files.values() for path in images]
    shape = _common_shape(paths)
    train, test = (_split(files, shape) for files in parts.values())
    return check(Dataset(train, test, classes, *mean_std(train.images)), root)


def _files(folder: Path) -> dict[str, list[Path]]:
    """Class name -> images, both sorted."""
    if not folder.is_dir():
        raise BadFileError(f"{folder} is missing; the folders train and test are needed, each with a folder per class")
    with reading(folder):
        classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise BadFileError(f"{folder} has no class folders; images belong in {folder / 'CLASS'}")
    found = {}
    for path in classes:
        with reading(path):
            images = sorted(
                image
                for image in path.iterdir()
                if image.suffix.lower() in _SUFFIXES and not image.name.startswith(".")
            )
        if not images:
            raise BadFileError(f"{path} has no images; {', '.join(_SUFFIXES)} are read")
        found[path.name] = images
    return found


def _common_shape(paths: list[Path]) -> tuple[int, int, int]:
    """Height, width and channels that all images have in common, without decoding them."""
    sizes, grey = [], True
    for path in paths:
        with _image(path) as image:
            sizes.append(image.size)
            grey = grey and image.mode in ("L", "1")
            if image.mode.startswith(("I", "F")):
                raise BadFileError(f"{path} has more than 8 bits per channel (mode {image.mode}); 8 bits are read")
            image.verify()  # the checksums of a PNG, which decoding skips
        if sizes[-1] != sizes[0]:
            raise BadFileError(
                f"{path} is {times(sizes[-1])} pixels and {paths[0]} is {times(sizes[0])}; "
                "all images must have the same size"
            )
    width, height = sizes[0]
    return height, width, 1 if grey else 3


def _split(files: dict[str, list[Path]], shape: tuple[int, int, int]) -> Split:
    labelled = [(path, label) for label, paths in enumerate(files.values()) for path in paths]
    images = np.empty((len(labelled), *shape), np.uint8)
    for row, (path, _) in enumerate(labelled):
        with _image(path) as image:
            images[row] = np.asarray(image.convert("L" if shape[2] == 1 else "RGB")).reshape(shape)
    return Split(images, np.array([label for _, label in labelled], np.int32))


@contextmanager
def _image(path: Path) -> Iterator[Any]:
    """Open an image; whatever goes wrong inside of the block is reported as a bad file."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata, which is not used
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Only these two decoders: Pillow goes by the content, and a file named .png may hold any format.
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                yield image
    except SupermaskError:
        raise
    except Exception as error:  # decoders raise all kinds of errors for damaged images
        raise BadFileError(f"cannot read the image {path}: {_reason(error, path)}") from error


def _reason(error: Exception, path: Path) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "it is neither PNG nor JPEG, or damaged"
    return one_line(error).replace(f": {str(path)!r}", "")[:200]
