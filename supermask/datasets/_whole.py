"""A folder that appears whole or not at all, whoever else is making it and whenever we are killed."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NEW = 10.0  # seconds


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `target` to be filled with files; it takes that name at the end.

    `target` does not exist or is empty. If anything fails, the hidden folder is removed. If we are killed, it stays,
    but loses its lock: the next call sees that and removes it.

    Raises:
        OSError: the folder cannot be written.
    """
    fresh = not target.parent.exists()
    target.parent.mkdir(parents=True, exist_ok=True)
    for part in target.parent.glob(f".{target.name}.*.part"):
        if _is_abandoned(part):
            shutil.rmtree(part, ignore_errors=True)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    lock = -1
    try:
        part.mkdir()
        lock = os.open(part, os.O_RDONLY)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield part
        for path in part.iterdir():
            path.chmod(0o644)  # downloads start as private temporary files, but all users of a machine share datasets
            with path.open("rb") as file:
                os.fsync(file.fileno())
        try:
            part.rename(target)
        except OSError:
            # Another process that fetched the same files was first: its folder is as good as ours.
            if not (target.is_dir() and any(target.iterdir())):
                raise
    finally:
        if lock >= 0:
            os.close(lock)
        shutil.rmtree(part, ignore_errors=True)
        if fresh:
            with suppress(OSError):
                target.parent.rmdir()  # succeeds only if it is empty


def _is_abandoned(part: Path) -> bool:
    """Whether no process holds its lock. A new folder does not count: its process may not have locked it yet."""
    try:
        handle = os.open(part, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return time.time() - os.fstat(handle).st_mtime > _NEW
        finally:
            os.close(handle)
    except OSError:
        return False
