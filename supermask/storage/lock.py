"""One process at a time in a run folder: by a lock of the file system or, where there are none, by an owner file."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path

from supermask.errors import RunFolderError, UsageError

HELD = (errno.EWOULDBLOCK, errno.EACCES)
"""The errors of a lock that another process holds. All others come from file systems that have no such lock."""


class Lock:
    """A hidden folder that this process owns.

    Attributes:
        note: what the user should know about the lock, or "".
    """

    def __init__(self, handle: int | None = None, owner: Path | None = None, note: str = "") -> None:
        self._handle, self._owner, self.note = handle, owner, note

    def release(self) -> None:
        """Give the folder up; a second call does nothing."""
        handle, owner, self._handle, self._owner = self._handle, self._owner, None, None
        if handle is not None:
            os.close(handle)
        if owner is not None and _read(owner) == _myself():
            owner.unlink(missing_ok=True)


def lock_folder(hidden: Path, path: Path) -> Lock:
    """Create a hidden folder, unless it exists, and lock it.

    Args:
        hidden: the folder to lock.
        path: the run folder as the user knows it, for messages.

    Raises:
        UsageError: the folder cannot be created.
        RunFolderError: another process holds the lock.
    """
    while True:
        try:
            hidden.with_name(f"{hidden.name}.old").exists()  # the longest name that a run needs
            hidden.mkdir(parents=True, exist_ok=True)
            handle = os.open(hidden, os.O_RDONLY)
        except OSError as error:
            shorter = "; give --out a shorter name" if error.errno == errno.ENAMETOOLONG else ""
            raise UsageError(f"cannot create the run folder {path}: {error.strerror}{shorter}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.stat(hidden)):
                return Lock(handle)
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(handle)
            if error.errno in HELD:
                raise _in_use(path, "wait until it ends or choose another --out") from error
            return _own(hidden, path, error)
        os.close(handle)  # its owner renamed or removed it after we opened it: try again


def _own(hidden: Path, path: Path, error: OSError) -> Lock:
    """Own the folder by a file beside it that says which process does.

    Making a file that is not there yet is atomic even where locks are not. A file counts until its process has ended,
    which can be told only on the host that the process is on.
    """
    owner = hidden.with_name(f"{hidden.name}.owner")
    while not _make(owner):
        held = _read(owner)
        if _has_ended(held):
            _remove(owner, held, path)
        elif owner.exists():
            pid, host = held.split()[:2] if held else ("?", "an unknown host")
            why = f"{path.parent} cannot be locked, so only that host can tell whether it has ended"
            raise _in_use(path, f"it is process {pid} on {host}; {why}: if it has, remove {owner}") from error
    return Lock(
        owner=owner,
        note=f"{path.parent} cannot be locked ({error.strerror}): the file {owner.name} keeps other processes out",
    )


def _remove(owner: Path, held: str, path: Path) -> None:
    """Remove the owner file of a process that has ended, unless another process was faster."""
    removing = owner.with_name(f"{owner.name}-removing")
    if not _make(removing):
        raise _in_use(path, f"if there is none, one ended while it took over: remove {removing}")
    try:
        if _read(owner) == held:
            owner.unlink()
    finally:
        removing.unlink()


def _make(path: Path) -> bool:
    """Make a file that names this process; return False if there is such a file."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_myself())
    except FileExistsError:
        return False
    except OSError as error:
        raise UsageError(f"cannot create {path}: {error.strerror}") from error
    return True


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""


def _myself() -> str:
    """This process: its number, its host, the numbering that its number belongs to (containers have their own), and
    when it began, since numbers are used again."""
    return " ".join((str(os.getpid()), *_here(), _began(os.getpid())))


def _here() -> tuple[str, str]:
    with suppress(OSError):
        return socket.gethostname(), os.readlink("/proc/self/ns/pid")
    return socket.gethostname(), "-"


def _began(pid: int) -> str:
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return "-"


def _has_ended(held: str) -> bool:
    """Whether a process of this host has ended; False if it is on another host."""
    try:
        pid, host, numbering, began = held.split()
        if (host, numbering) != _here():
            return False
        os.kill(int(pid), 0)
        return _began(int(pid)) != began
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):  # another user's; or not written yet
        return False


def _in_use(path: Path, what: str) -> RunFolderError:
    return RunFolderError(f"another process is writing to the run folder {path}; {what}")
