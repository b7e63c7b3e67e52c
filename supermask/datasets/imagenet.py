"""ImageNet of 2012: 1,281,167 + 50,000 colour images of any size, 1,000 classes; validation images are the test split.

Source: Russakovsky et al., "ImageNet large scale visual recognition challenge", International Journal of Computer
Vision 115, 2015; https://image-net.org.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from supermask.datasets import _devkit
from supermask.datasets._check import no_argument, note, reading
from supermask.datasets._folder import LeftOut, by_class, entries_of, read_images
from supermask.datasets._missing import missing
from supermask.datasets._synsets import answers_of, check_same, class_names, flat_classes, read_lines, train_classes
from supermask.errors import BadFileError, one_line
from supermask.types import Dataset

EPOCHS = 90
AUGMENT = "random-resized-crop"
RESIZES = True
CROPS = True

TRAIN = (1_281_167,)
TEST = (50_000,)
NUM_CLASSES = 1000

_NAMES = ("imagenet", "ImageNet", "ILSVRC2012", "imagenet-object-localization-challenge", ".")
_KAGGLE = Path("ILSVRC/Data/CLS-LOC")
_ORIGIN = "the images from https://image-net.org or Kaggle (imagenet-object-localization-challenge)"
_ANSWERS, _WORDS = "LOC_val_solution.csv", "LOC_synset_mapping.txt"


def load(data_dir: Path, argument: str = "", image_size: int | None = None, crops: bool = False) -> Dataset:
    """Read the folders train/NUMBER and val, as torchvision has them or under ILSVRC/Data/CLS-LOC as Kaggle has them.

    The folder val has a folder for each class, or images whose classes are in LOC_val_solution.csv or in the
    development kit (ILSVRC2012_devkit_t12). Classes are in the order of their numbers, and called as in
    LOC_synset_mapping.txt. These files lie beside the folder of all. The images of another folder test have no labels
    and are not read.

    Args:
        image_size: height and width of the images, since theirs differ.

    Returns:
        Images uint8 (n, height, width, 3), labels int32 (n,), mean and std of the training images.

    Raises:
        UsageError: an argument was given.
        BadFileError: a file is missing or damaged, or the files do not agree on the classes.
    """
    found = where(data_dir, argument)
    if not found:
        raise missing("imagenet", Path(data_dir), "a folder imagenet with train/CLASS and val/CLASS", _ORIGIN)
    [root] = found
    images = root / _KAGGLE if (root / _KAGGLE).is_dir() else root
    left_out = LeftOut()
    train = train_classes(images / "train", left_out)
    test = _validation(root, images / "val", list(train), left_out)
    names = class_names(root / _WORDS, list(train), None)
    dataset = read_images(
        root, {"train": by_class(train), "test": by_class(test)}, names, image_size, crops, grey=False
    )
    note(f"{root}: val is the test split, and validation images are held out of train")
    left_out.say(root)
    return dataset


def where(data_dir: Path, argument: str = "") -> list[Path]:
    """The folder; [] if there is none."""
    no_argument("imagenet", argument)
    with reading(Path(data_dir)):
        for root in (Path(data_dir) / name for name in _NAMES):
            for images in (root, root / _KAGGLE):
                if all((images / part).is_dir() for part in ("train", "val")) and _has_numbers(images / "train"):
                    return [root]
    return []


def _has_numbers(folder: Path) -> bool:
    """Whether its folders are called as the classes of ImageNet; other image folders may lie in the same place."""
    entries = [path.name for path in entries_of(folder)]
    return any(len(name) == 9 and name[0] == "n" and name[1:].isdigit() for name in entries)


def _validation(root: Path, folder: Path, classes: list[str], left_out: LeftOut) -> dict[str, list[Path]]:
    if any(path.is_dir() for path in entries_of(folder)):
        found = train_classes(folder, left_out)
        check_same(classes, list(found), folder.parent / "train", folder)
        return found
    path, kit = root / _ANSWERS, root / _devkit.FOLDER
    if path.is_file():
        answers = answers_of(_answers(path), path)
    elif (kit / _devkit.TRUTH).is_file():
        path = kit / _devkit.TRUTH
        answers = dict(_devkit.answers(kit))
    else:
        raise BadFileError(
            f"{folder} has no class folders, and neither {path} nor {kit / _devkit.TRUTH} exists; one of the three is "
            "needed"
        )
    return flat_classes(folder, answers, path, classes, left_out)


def _answers(path: Path) -> Iterator[tuple[str, str]]:
    """Each image and its class; the file has the boxes around the things in the image, all of one class."""
    try:
        header, *lines = [*csv.reader(read_lines(path))] or [[]]
    except csv.Error as error:
        raise BadFileError(f"{path} is not a CSV file: {one_line(error)}") from error
    if header != ["ImageId", "PredictionString"]:
        raise BadFileError(f"{path} begins with {','.join(header)[:60]!r}; it must be 'ImageId,PredictionString'")
    for line in lines:
        if len(line) != 2 or not line[1].split():
            raise BadFileError(
                f"{path} has the line {','.join(line)[:60]!r}; it must be an image, and its class and box"
            )
        yield line[0], line[1].split()[0]
