"""Handwritten digits that come with scikit-learn: 1,437 + 360 greyscale images, 8x8, 10 classes; no download.

Source: Alpaydin, Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository, 1998
(doi:10.24432/C50P49); its test part, as in sklearn.datasets.load_digits.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from supermask.datasets._check import check, no_argument
from supermask.datasets._stats import mean_std
from supermask.types import Dataset, Split

EPOCHS = 20
AUGMENT = "none"

TRAIN = (1_437, 8, 8, 1)
TEST = (360, 8, 8, 1)
NUM_CLASSES = 10


def load(data_dir: Path, argument: str = "") -> Dataset:
    """Read the digits of the installed scikit-learn, always split in the same way; `data_dir` is not used.

    Returns:
        Images uint8 (1437, 8, 8, 1) and (360, 8, 8, 1) with 0..16 stretched to 0..255, labels int32 from 0 to 9.

    Raises:
        UsageError: an argument was given.
    """
    no_argument("digits", argument)
    table = _table()
    images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = table[:, -1].astype(np.int32)
    held_out = _held_out(labels)
    train = Split(images[~held_out], labels[~held_out])
    test = Split(images[held_out], labels[held_out])
    return check(Dataset(train, test, tuple("0123456789"), *mean_std(train.inputs)), "scikit-learn's digits")


def where(data_dir: Path, argument: str = "") -> list[Path]:
    """The file of the installed scikit-learn; [] if it keeps the digits elsewhere."""
    no_argument("digits", argument)
    spec = importlib.util.find_spec("sklearn")
    folders = (spec and spec.submodule_search_locations) or ()
    return [path for folder in folders if (path := Path(folder, "datasets", "data", "digits.csv.gz")).is_file()][:1]


def _table() -> np.ndarray:
    """Pixels and label, (1797, 65), read from scikit-learn's own file, because importing scikit-learn takes seconds."""
    for path in where(Path()):
        return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits  # a release that keeps its files elsewhere

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])


def _held_out(labels: np.ndarray) -> np.ndarray:
    """Whether each example belongs to the test split: 360 do, drawn from every class in proportion to its size.

    They are drawn by the raw bits of Philox with key 0, because NumPy promises that the raw bits of a bit generator
    stay the same, but not what `Generator.permutation` makes of them.
    """
    counts = np.bincount(labels)
    quota, rest = np.divmod(counts * TEST[0], len(labels))
    quota[np.argsort(-rest, kind="stable")[: TEST[0] - quota.sum()]] += 1
    draws = np.random.Philox(key=0).random_raw(len(labels))
    held_out = np.zeros(len(labels), bool)
    for label, share in enumerate(quota):
        members = np.flatnonzero(labels == label)
        held_out[members[np.argsort(draws[members], kind="stable")[:share]]] = True
    return held_out
