"""The classes of ImageNet's validation images as its development kit has them.

Source of the layout: the kit's readme (ILSVRC2012_devkit_t12): line i of data/ILSVRC2012_validation_ground_truth.txt is
the ILSVRC2012_ID of ILSVRC2012_val_i.JPEG, and data/meta.mat has the WordNet number of each ID.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from supermask.datasets._mat import opened
from supermask.datasets._synsets import read_lines
from supermask.errors import BadFileError

FOLDER = Path("ILSVRC2012_devkit_t12/data")
TRUTH = "ILSVRC2012_validation_ground_truth.txt"


def answers(folder: Path) -> Iterator[tuple[str, str]]:
    """Each validation image, without its suffix, and its class.

    Args:
        folder: data of the kit.

    Raises:
        BadFileError: a file is missing or of another layout, or an ID is not among those of meta.mat.
    """
    path, numbers = folder / TRUTH, _numbers(folder / "meta.mat")
    for place, line in enumerate(read_lines(path), 1):
        number = numbers.get(line.strip())
        if number is None:
            raise BadFileError(f"{path} has {line[:60]!r} in line {place}; it must be an ID that meta.mat has")
        yield f"ILSVRC2012_val_{place:08d}", number


def _numbers(path: Path) -> dict[str, str]:
    """ID -> WordNet number; meta.mat has those of groups of classes as well."""
    from scipy.io import loadmat

    with opened(path) as file:
        synsets = loadmat(file, variable_names=("synsets",)).get("synsets")
    if synsets is None or not {"ILSVRC2012_ID", "WNID"} <= set(synsets.dtype.names or ()):
        raise BadFileError(
            f"{path} has no table synsets with ILSVRC2012_ID and WNID; it is not that of the kit of 2012"
        )
    ids, numbers = ([row.item() for row in synsets[name].reshape(-1)] for name in ("ILSVRC2012_ID", "WNID"))
    return {str(int(key)): number for key, number in zip(ids, numbers, strict=True)}
