"""Checkpoints in a folder: the last two are kept, each verified by SHA-256 when it is read.

Each is one sealed safetensors file (see `sealed`), written under a temporary name, flushed to the disk and renamed, so
that a folder holds whole ones only; a bit that a disk lost is found by the hash, and the one before is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from supermask.errors import BadFileError
from supermask.storage.atomic import read_bytes, write_atomic
from supermask.storage.container import seal, unseal
from supermask.types import Tree

FORMAT = 2
KEPT = 2
PATTERN = "checkpoint-*.safetensors"


def save(folder: Path, number: int, document: dict[str, Any], tensors: Tree) -> Path:
    """Write a checkpoint and remove those before the last two.

    Args:
        number: where it lies among others; a later one has a higher number.
        document: JSON values.

    Raises:
        DiskError: it is full, for example; older checkpoints are untouched.
    """
    path = folder / f"checkpoint-{number:020d}.safetensors"
    write_atomic(path, seal({"format": FORMAT, "kind": "checkpoint", **document}, tensors))
    for old in paths(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def paths(folder: Path) -> list[Path]:
    """All checkpoints of a folder, the newest last."""
    return sorted(path for path in folder.glob(PATTERN) if path.is_file())


def newest(folder: Path) -> tuple[Path, dict[str, Any], Tree, list[str]] | None:
    """(path, document, tensors, complaints about newer ones that are damaged) of the newest good one; None without any.

    Raises:
        BadFileError: there are some, and all are damaged.
    """
    complaints: list[str] = []
    for path in reversed(paths(folder)):
        try:
            document, tensors = unseal(read_bytes(path, "a checkpoint"), path, FORMAT, "checkpoint")
            if document.get("kind") != "checkpoint":
                raise BadFileError(f"{path} is no checkpoint")
            if document["format"] < FORMAT:
                raise BadFileError(f"{path} is of an earlier version of supermask, from which this one cannot go on")
            return path, document, tensors, complaints
        except BadFileError as error:
            complaints.append(str(error))
    if complaints:
        raise BadFileError(f"{complaints[0]}; no other checkpoint there is good: --force searches anew")
    return None
