"""The floors of a split of sequences: accuracies that need no understanding. They stand beside every result."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from supermask.data.splits import noun_of
from supermask.types import Dataset, Split


def floors_of(dataset: Dataset, part: str) -> dict[str, float]:
    """The floors of the split of this name, those that the dataset names and those of guessing; {} for images."""
    if noun_of(dataset) == "images":
        return {}
    split: Split = getattr(dataset, part)
    return guesses(dataset.train, split) | dict(dataset.floors(split) if dataset.floors else {})


def guesses(train: Split, split: Split) -> dict[str, float]:
    """The accuracies on a split of guesses that do not look at the sequence.

    `uniform`: one of the tokens that are ever the answer, at random; `majority`: always the commonest one of the
    training sequences; `place`: the commonest one there at the same place, if there are several places.
    """
    known, asked = train.targets, split.targets
    count = max(1, int((asked >= 0).sum()))
    sizes = np.bincount(known[known >= 0], minlength=1)
    found = {"uniform": 1 / max(1, int((sizes > 0).sum())), "majority": float((asked == sizes.argmax()).sum()) / count}
    if known.ndim > 1:
        columns = [column[column >= 0] for column in known.T]
        best = [np.bincount(column).argmax() if len(column) else -2 for column in columns]  # no target is -2
        found["place"] = float((asked == np.asarray(best)).sum()) / count
    return found


def said(floors: Mapping[str, float]) -> str:
    """Floors in one line, the highest first."""
    ranked = sorted(floors.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {value:.4f}" for name, value in ranked)


def beside(floors: Mapping[str, float]) -> str:
    """The highest floor, to be put beside an accuracy; "" if there is none."""
    return f"  floor {max(floors.values()):.4f}" if floors else ""
