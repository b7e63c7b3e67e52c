"""ImageNet at 64x64: 100,000 + 10,000 colour images, 200 classes; the official validation images are the test split.

Source: Stanford CS231n, "Tiny ImageNet visual recognition challenge", 2015; the images are those of ImageNet
(Russakovsky et al., IJCV 2015).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from supermask.datasets._check import counted, no_argument, note, reading
from supermask.datasets._folder import LeftOut, by_class, entries_of, read_images
from supermask.datasets._missing import missing
from supermask.datasets._synsets import answers_of, check_same, class_names, flat_classes, read_lines, train_classes
from supermask.errors import BadFileError
from supermask.types import Dataset

EPOCHS = 100
AUGMENT = "crop-flip"
RESIZES = True
CROPS = True

TRAIN = (100_000, 64, 64, 3)
TEST = (10_000, 64, 64, 3)
NUM_CLASSES = 200

_FOLDER = "tiny-imagenet-200"
_ORIGIN = f"http://cs231n.stanford.edu/{_FOLDER}.zip (237 MB)"
_IMAGES, _ANSWERS, _NUMBERS, _WORDS = "images", "val_annotations.txt", "wnids.txt", "words.txt"


def load(data_dir: Path, argument: str = "", image_size: int | None = None, crops: bool = False) -> Dataset:
    """Read the official folder: train/NUMBER/images, val/images with val_annotations.txt, wnids.txt and words.txt.

    Classes are in the order of their numbers, and called as in words.txt. The images in test have no labels and are
    left out, as are the boxes of each class. Lines on stderr say so.

    Args:
        image_size: height and width of the images, if theirs differ.

    Returns:
        Images uint8 (n, 64, 64, 3), labels int32 (n,), mean and std of the training images.

    Raises:
        UsageError: an argument was given.
        BadFileError: a file is missing or damaged, or the files do not agree on the classes.
    """
    found = where(data_dir, argument)
    if not found:
        raise missing("tiny-imagenet", Path(data_dir), f"its folder {_FOLDER}, unpacked,", _ORIGIN)
    [root] = found
    left_out = LeftOut()
    train = train_classes(root / "train", left_out)
    numbers = [line.strip() for line in read_lines(root / _NUMBERS)]
    check_same(sorted(train), numbers, root / "train", root / _NUMBERS)
    source = root / "val" / _ANSWERS
    answers = answers_of(_answers(source), source)
    test = flat_classes(root / "val" / _IMAGES, answers, source, list(train), left_out)
    names = class_names(root / _WORDS, list(train), "\t")
    dataset = read_images(
        root, {"train": by_class(train), "test": by_class(test)}, names, image_size, crops, grey=False
    )
    unlabelled = root / "test" / _IMAGES
    count = len(entries_of(unlabelled)) if unlabelled.is_dir() else 0
    note(
        f"{root}: val is the test split, and validation images are held out of train; "
        f"left out test, {counted(count, 'image')} without labels"
    )
    left_out.say(root)
    return dataset


def where(data_dir: Path, argument: str = "") -> list[Path]:
    """The folder; [] if there is none."""
    no_argument("tiny-imagenet", argument)
    data_dir = Path(data_dir)
    places = (data_dir / _FOLDER, data_dir / "tiny-imagenet", data_dir / "tiny-imagenet" / _FOLDER, data_dir)
    with reading(data_dir):
        return [path for path in places if (path / _NUMBERS).is_file() and (path / "train").is_dir()][:1]


def _answers(path: Path) -> Iterator[tuple[str, str]]:
    """Each image, without its suffix, and its class."""
    for line in read_lines(path):
        name, *rest = line.split("\t")
        if not rest:
            raise BadFileError(
                f"{path} has the line {line[:60]!r}; it must be a file, its class and box, with tabs between"
            )
        yield Path(name).stem, rest[0].strip()
