"""Files that a reader never sees half-written."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from supermask.errors import BadFileError, DiskError, RunFolderError, UsageError


def write_atomic(path: Path, data: bytes) -> None:
    """Write to a temporary name in the same folder, flush to the disk and rename.

    Raises:
        UsageError: the folder does not exist or may not be written to, or what is there is a device or the like.
        DiskError: it is full, for example.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"cannot write {path}: it is there and no regular file")
    if path.is_symlink():
        path = path.resolve()  # the link stays
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: the folder {path.parent} does not exist")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    except PermissionError as error:
        raise UsageError(f"cannot write {path}: no permission to write in {path.parent}") from error
    except OSError as error:
        raise DiskError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
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
    """Remove it with all that is in it, if it is there and ours to remove, be it read-only."""
    for path, _, _ in os.walk(folder):
        with suppress(OSError):
            os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def empty_folder(folder: Path) -> None:
    """Remove all that is in it."""
    for left_over in folder.iterdir():
        shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()


def sync_file(path: Path) -> int:
    """Make what was appended to a file survive a power cut; its size.

    Raises:
        DiskError: it cannot.
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
    """Make a rename inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock_folder(hidden: Path, path: Path) -> int:
    """Make a hidden folder and lock it; the descriptor that holds the lock.

    Raises:
        UsageError: it cannot be made; `path` is what the user calls it.
        RunFolderError: another process holds the lock.
    """
    while True:
        try:
            hidden.mkdir(parents=True, exist_ok=True)
            lock = os.open(hidden, os.O_RDONLY)
        except OSError as error:
            raise UsageError(f"cannot make the run folder {path}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), os.stat(hidden)):
                return lock
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(lock)
            raise RunFolderError(
                f"another process is filling the run folder {path}; wait for it or choose another --out"
            ) from error
        os.close(lock)  # its owner renamed or removed it between our two calls: once more


def read_bytes(path: Path, what: str) -> bytes:
    """The whole file.

    Raises:
        BadFileError: it does not exist, is a folder or cannot be read; `what` says what was expected there.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BadFileError(f"{path} does not exist; it should be {what}") from error
    except OSError as error:
        raise BadFileError(f"cannot read {path}: {error.strerror}; it should be {what}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
