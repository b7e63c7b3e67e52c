"""Checkpoints in a folder: the last two are kept, and each is verified by SHA-256 when it is read.

A checkpoint is one sealed safetensors file (see `storage.container`). It is written under a temporary name, flushed to
the disk and renamed, so a folder never holds a partial one. If the disk corrupts a checkpoint, the hash shows it, and
the checkpoint before it is used.
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
    """Write a checkpoint and remove all but the last two.

    Args:
        folder: the folder of checkpoints.
        number: its position; a later checkpoint has a higher number.
        document: JSON values.
        tensors: arrays by name.

    Raises:
        DiskError: the file cannot be written, for example on a full disk; older checkpoints are untouched.
    """
    path = folder / f"checkpoint-{number:020d}.safetensors"
    write_atomic(path, seal({"format": FORMAT, "kind": "checkpoint", **document}, tensors))
    for old in paths(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def paths(folder: Path) -> list[Path]:
    """List all checkpoints in a folder, newest last."""
    return sorted(path for path in folder.glob(PATTERN) if path.is_file())


def newest(folder: Path) -> tuple[Path, dict[str, Any], Tree, list[str]] | None:
    """Read the newest intact checkpoint: (path, document, tensors, complaints about newer, damaged checkpoints).

    Returns None if there are no checkpoints.

    Raises:
        BadFileError: there are checkpoints, and all are damaged.
    """
    complaints: list[str] = []
    for path in reversed(paths(folder)):
        try:
            document, tensors = unseal(read_bytes(path, "a checkpoint"), path, FORMAT, "checkpoint")
            if document.get("kind") != "checkpoint":
                raise BadFileError(f"{path} is not a checkpoint")
            if document["format"] < FORMAT:
                raise BadFileError(f"{path} is from an earlier version of supermask; this version cannot resume it")
            return path, document, tensors, complaints
        except BadFileError as error:
            complaints.append(str(error))
    if complaints:
        raise BadFileError(f"{complaints[0]}; no other checkpoint there is intact: --force starts over")
    return None
