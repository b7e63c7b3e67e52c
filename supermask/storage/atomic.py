"""Files that no reader ever sees half-written."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from supermask.errors import BadFileError, DiskError, UsageError


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to a temporary file in the same folder, flush it to the disk and rename it to `path`.

    If `path` is a symbolic link, the file that it points to is replaced and the link stays.

    Raises:
        UsageError: the folder does not exist or is not writable, or `path` is a folder, a device or the like.
        DiskError: the disk refused, for example because it is full.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"cannot write {path}: it exists and is not a regular file")
    if path.is_symlink():
        path = path.resolve()
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: the folder {path.parent} does not exist")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{cut(path.name, 100)}.", dir=path.parent)
    except PermissionError as error:
        raise UsageError(f"cannot write {path}: no permission to write in {path.parent}") from error
    except OSError as error:
        raise DiskError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(OSError):  # a file system that knows no permissions
            os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
        sync_folder(path.parent)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise DiskError(f"cannot write {path}: {error.strerror}") from error
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def remove_folder(folder: Path) -> None:
    """Remove a folder and everything in it, read-only folders included; what cannot be removed stays, silently."""
    for path, _, _ in os.walk(folder):
        with suppress(OSError):
            os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def empty_folder(folder: Path) -> None:
    """Remove everything in a folder, but not the folder itself."""
    for item in folder.iterdir():
        shutil.rmtree(item) if item.is_dir() else item.unlink()


def sync_file(path: Path) -> int:
    """Flush a file to the disk, so that what was appended survives a power cut; return its size in bytes.

    Raises:
        DiskError: the file cannot be opened or flushed.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
            return os.fstat(handle).st_size
        finally:
            os.close(handle)
    except OSError as error:
        raise DiskError(f"cannot write {path}: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Flush a folder to the disk, so that a rename inside it survives a power cut, where the file system can do it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(handle)


def read_bytes(path: Path, what: str) -> bytes:
    """The content of a file.

    Args:
        path: the file.
        what: what the file should be, for messages: "a ticket".

    Raises:
        BadFileError: it does not exist, is a folder or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BadFileError(f"{path} does not exist; it should be {what}") from error
    except OSError as error:
        raise BadFileError(f"cannot read {path}: {error.strerror}; it should be {what}") from error


def cut(name: str, size: int) -> str:
    """Return the end of a name, at most `size` bytes long: file systems limit bytes, not characters."""
    return os.fsdecode(os.fsencode(name)[-size:].lstrip(bytes(range(0x80, 0xC0))))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
