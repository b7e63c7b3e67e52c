"""The splits of a user's own data by the names that people give them, and what stands in for a missing one."""

from __future__ import annotations

from typing import TypeVar

from supermask.datasets._check import note

PARTS = {
    "train": ("training", "train"),
    "test": ("testing", "test"),
    "validation": ("validation", "valid", "val"),
}
"""Field of `Dataset` -> the names that are read as this split, in lower case, the usual one last."""

T = TypeVar("T")


def with_test(found: dict[str, T], source: object, name: object) -> dict[str, T]:
    """The splits, with validation as the test split where there is no other, as ImageNet is used; stderr says so.

    Args:
        source, name: for the line on stderr: where the splits are from, and what the validation split is called there.
    """
    if "test" in found or "validation" not in found:
        return found
    note(f"{source} has no test split: {name} is the test split, and validation images are held out of train")
    return {"test" if part == "validation" else part: value for part, value in found.items()}
