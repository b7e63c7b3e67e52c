"""What is said of official files that are not there and that we do not fetch."""

from __future__ import annotations

from pathlib import Path

from supermask.errors import BadFileError


def missing(name: str, data_dir: Path, what: str, origin: str) -> BadFileError:
    """The error for a dataset that the user has to get: we fetch only files whose SHA-256 we know.

    Args:
        what, origin: the file or folder that belongs into `data_dir`, and where it comes from.
    """
    return BadFileError(f"{name} is not in {data_dir}, and is not fetched: get {origin} and put {what} into {data_dir}")
