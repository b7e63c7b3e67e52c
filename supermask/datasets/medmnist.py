"""Medical images of MedMNIST in their .npz files: `medmnist:NAME`, such as pathmnist, or pathmnist_64 for 64x64 pixels.

Source: Yang et al., "MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical image classification",
Scientific Data 10, 2023; https://medmnist.com.
"""

from __future__ import annotations

from pathlib import Path

from supermask.datasets._check import check, reading
from supermask.datasets._missing import missing
from supermask.datasets._npz import read_npz, shapes_of
from supermask.datasets._stats import mean_std
from supermask.errors import BadFileError, UsageError
from supermask.runtime.places import expand
from supermask.types import Dataset

EPOCHS = 20
AUGMENT = "none"
ARGUMENT = "NAME"

_ORIGIN = "https://medmnist.com"
_PARTS = ("train", "val", "test")
_NEEDED = tuple(f"{part}_{content}" for part in _PARTS for content in ("images", "labels"))


def load(data_dir: Path, argument: str = "") -> Dataset:
    """Read NAME.npz; the official validation split is used. Classes have numbers, for the file has no names.

    Returns:
        Images uint8 (n, height, width, 1 or 3), labels int32 (n,), mean and std of the training images.

    Raises:
        UsageError: no name was given.
        BadFileError: the file is missing, damaged or in another layout; its images have three dimensions, or several
            labels each.
    """
    found = where(data_dir, argument)
    if not found:
        raise missing(f"medmnist:{argument}", Path(data_dir), f"{argument}.npz", f"it from {_ORIGIN}")
    [path] = found
    _check_layout(path, shapes_of(path))
    splits, classes = read_npz(path)
    train, test = splits["train"], splits["test"]
    return check(Dataset(train, test, classes, *mean_std(train.inputs), splits["validation"]), path)


def where(data_dir: Path, argument: str = "") -> list[Path]:
    """The file, in data_dir, data_dir/medmnist or where the package medmnist keeps it; [] if there is none.

    Raises:
        UsageError: no name was given.
    """
    if not argument or "/" in argument:
        raise UsageError("dataset medmnist needs the name of a set: medmnist:NAME, such as medmnist:pathmnist")
    folders = [Path(data_dir), Path(data_dir) / "medmnist", *_home()]
    with reading(Path(data_dir)):
        return [path for folder in folders if (path := folder / f"{argument}.npz").is_file()][:1]


def _home() -> list[Path]:
    try:
        return [expand("~/.medmnist")]
    except UsageError:  # no home folder
        return []


def _check_layout(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    lacking = [name for name in _NEEDED if name not in shapes]
    if lacking:
        has = ", ".join(sorted(shapes))[:200] or "nothing"
        raise BadFileError(
            f"{path} lacks {', '.join(lacking)} (it has {has}); files of medmnist have {', '.join(_NEEDED)}"
        )
    for name in _NEEDED[::2]:
        shape = shapes[name]
        if len(shape) > 4 or (len(shape) == 4 and shape[3] not in (1, 3)):
            raise BadFileError(
                f"{path}: {name} has the shape {shape}, images of three dimensions; only sets of flat images are read"
            )
    for name in _NEEDED[1::2]:
        shape = shapes[name]
        if len(shape) == 2 and shape[1] != 1:
            raise BadFileError(
                f"{path}: {name} has {shape[1]} labels for each image; only sets with one label per image are read"
            )
