"""Image folders whose classes are WordNet numbers, such as n01443537: ImageNet and what was made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from supermask.datasets._check import counted, note, reading
from supermask.datasets._folder import LeftOut, class_files, entries_of, is_hidden
from supermask.datasets._images import SUFFIXES
from supermask.errors import BadFileError, listed


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty.

    Raises:
        BadFileError: it is missing, unreadable or not text.
    """
    with reading(path):
        try:
            return [line for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise BadFileError(f"{path} is not a text file in UTF-8") from error


def answers_of(pairs: Iterable[tuple[str, str]], source: Path) -> dict[str, str]:
    """Image -> its class, from the lines of a file.

    Raises:
        BadFileError: an image is there twice, with different classes.
    """
    found: dict[str, str] = {}
    for image, number in pairs:
        if found.setdefault(image, number) != number:
            raise BadFileError(f"{source} has two classes for {image}: {found[image]} and {number}")
    return found


def class_names(path: Path, numbers: Sequence[str], separator: str | None) -> list[str]:
    """What the file calls each class, by lines of number, `separator` and name; a line on stderr says what it lacks."""
    if not path.is_file():
        note(f"{path} is not there: classes are called by their numbers, such as {numbers[0]}")
        return list(numbers)
    known = {}
    for line in read_lines(path):
        number, *name = line.split(separator, 1)
        known[number.strip()] = name[0].strip() if name else ""
    unnamed = [number for number in numbers if not known.get(number)]
    if unnamed:
        note(f"{path} has no name for {len(unnamed):,} of {len(numbers):,} classes: {listed(unnamed)}")
    return [known.get(number) or number for number in numbers]


def check_same(numbers: Sequence[str], others: Sequence[str], source: object, other: object) -> None:
    """Compare two lists of classes.

    Raises:
        BadFileError: one has a class that the other lacks.
    """
    for first, second, here, there in ((numbers, others, source, other), (others, numbers, other, source)):
        lacking = sorted(set(first) - set(second))
        if lacking:
            raise BadFileError(f"{there} lacks {listed(lacking)}, which {here} has; both need the same classes")


def train_classes(folder: Path, left_out: LeftOut) -> dict[str, list[Path]]:
    """Class -> its images, for a folder with a folder for each class."""
    with reading(folder):
        if not folder.is_dir():
            raise BadFileError(f"{folder} {'is not a folder' if folder.exists() else 'does not exist'}")
    return class_files(folder, left_out)


def flat_classes(
    folder: Path, answers: Mapping[str, str], source: Path, classes: Sequence[str], left_out: LeftOut
) -> dict[str, list[Path]]:
    """Class -> its images, for a folder of images whose classes are in a file.

    Args:
        answers: name of the image's file, without its suffix -> its class.
        source: the file that has the answers, for messages.
        classes: those that there are; each needs an image.

    Raises:
        BadFileError: an image has no answer or an answer no image, or classes differ.
    """
    images: dict[str, Path] = {}
    for path in entries_of(folder):
        if path.is_file() and path.suffix.lower() in SUFFIXES and not is_hidden(path):
            images[path.stem] = path
        else:
            left_out.add(path)
    unanswered = [path.name for stem, path in images.items() if stem not in answers]
    if unanswered:
        raise BadFileError(f"{source} has no class for {counted(len(unanswered), 'image')}: {listed(unanswered)}")
    lost = [stem for stem in answers if stem not in images]
    if lost:
        raise BadFileError(f"{folder} lacks {counted(len(lost), 'image')} that {source} has: {listed(lost)}")
    check_same(sorted(set(answers.values())), classes, source, "train")
    found: dict[str, list[Path]] = {number: [] for number in classes}
    for stem, path in images.items():
        found[answers[stem]].append(path)
    return found
