"""Fetch missing files once: from the first mirror that gives the right bytes, whole or not at all."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from supermask.errors import BadFileError, one_line

TIMEOUT = (10.0, 30.0)
"""Seconds to wait for a connection, and for the next bytes."""

_CHUNK = 1 << 16
_NEW = 10.0  # seconds


@dataclass(frozen=True)
class Remote:
    """A file on the official mirrors: its name, its size in bytes and its SHA-256 in hex."""

    name: str
    size: int
    sha256: str


class _FetchError(Exception):
    """Why no mirror helped; becomes part of the one line."""


def fetch(
    name: str,
    mirrors: Sequence[str],
    files: Sequence[Remote],
    target: Path,
    *,
    into: Path,
    unpack: Callable[[Path], None] | None = None,
    timeout: tuple[float, float] = TIMEOUT,
) -> Path:
    """Download `files` and return `target`, a folder that appears whole or not at all.

    Args:
        name: the dataset, for the message.
        mirrors: URLs that a file's name is appended to, tried in this order for every file.
        files: what to download; each is verified by size and SHA-256.
        target: the folder to create; it does not exist or is empty.
        into: the folder where a user would put the files by hand, for the message.
        unpack: called with the folder that holds the downloads, before it becomes `target`, to change its content.
        timeout: seconds for connecting and for reading.

    Raises:
        BadFileError: no network, SUPERMASK_OFFLINE is set, every mirror failed or the folder cannot be written; the
            message names the URL and where the files belong.
    """
    try:
        if os.environ.get("SUPERMASK_OFFLINE", "0") not in ("", "0"):
            raise _FetchError("SUPERMASK_OFFLINE is set")
        with _new_folder(target) as part:
            order = list(mirrors)
            for file in files:
                good = _download(name, file, order, part, timeout)
                # A dead mirror costs its timeout only once.
                order.sort(key=lambda mirror, good=good: mirror != good)  # type: ignore[misc]
            if unpack:
                unpack(part)
    except (_FetchError, OSError) as error:
        reason = (
            f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.strerror else one_line(error)
        )
        rest = "".join(f", {file.name}" for file in files[1:])
        raise BadFileError(
            f"{name} is not in {target.parent} and cannot be fetched ({reason}): "
            f"put {mirrors[0]}{files[0].name}{rest} into {into}{os.sep}"
        ) from error
    return target


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its name in the end, or vanishes when something fails.

    One of a process that was killed stays; it has lost its lock, by which the next one knows that it may be removed.
    """
    fresh = not target.parent.exists()
    target.parent.mkdir(parents=True, exist_ok=True)
    for old in target.parent.glob(f".{target.name}.*.part"):
        if _is_left(old):
            shutil.rmtree(old, ignore_errors=True)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    lock = -1
    try:
        part.mkdir()
        lock = os.open(part, os.O_RDONLY)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield part
        for path in part.iterdir():
            path.chmod(
                0o644
            )  # downloads begin as private temporary files; data sets are shared by the users of a machine
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
                target.parent.rmdir()  # succeeds only where nothing was fetched


def _is_left(part: Path) -> bool:
    """Whether nobody holds its lock; one that is new may still be about to."""
    try:
        handle = os.open(part, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return time.time() - os.fstat(handle).st_mtime > _NEW
        finally:
            os.close(handle)
    except OSError:
        return False


def _download(name: str, file: Remote, mirrors: Sequence[str], folder: Path, timeout: tuple[float, float]) -> str:
    """Download one file and return the mirror that had it."""
    import pooch

    reasons = []
    for mirror in mirrors:
        url = mirror + file.name
        show = _Progress(f"{name}: {url}", file.size)

        def save(url: str, output_file: str, caller: Any, show: _Progress = show) -> None:
            # `identity`: a server that compresses on the way would change the size that is checked.
            http = pooch.HTTPDownloader(chunk_size=_CHUNK, timeout=timeout, headers={"Accept-Encoding": "identity"})
            with open(output_file, "wb") as raw:
                http(url, _Sink(raw, file.size, show), caller)
            if os.path.getsize(output_file) != file.size:
                raise _FetchError(f"{os.path.getsize(output_file)} bytes instead of {file.size}")

        try:
            with _quiet(pooch.get_logger()):
                pooch.retrieve(url, known_hash=f"sha256:{file.sha256}", fname=file.name, path=folder, downloader=save)
            return mirror
        except Exception as error:  # whatever requests, urllib3, ssl or the server come up with, the next mirror may do
            reasons.append(f"{mirror.partition('//')[2].partition('/')[0]}: {_reason(error)}")
        finally:
            show.end()
    raise _FetchError("; ".join(reasons))


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "timed out"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, ValueError) and "hash" in str(error):
        return "wrong SHA-256"
    return one_line(error)[:120]


@contextmanager
def _quiet(logger: Any) -> Iterator[None]:
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)


class _Sink:
    """A file that takes no more bytes than announced, so that an endless answer fills no disk."""

    def __init__(self, raw: IO[bytes], size: int, show: _Progress) -> None:
        self.raw, self.size, self.show, self.done = raw, size, show, 0

    def write(self, data: bytes) -> None:
        self.done += len(data)
        if self.done > self.size:
            raise _FetchError(f"more than the {self.size} bytes expected")
        self.raw.write(data)
        self.show.draw(self.done)

    def flush(self) -> None:
        """Pooch flushes after every chunk; the file is flushed when it is closed."""


class _Progress:
    """A bar on stderr if that is a terminal, else one line; nothing until the first bytes come.

    So a failure without a network is the one line of the error and no more.
    """

    def __init__(self, label: str, size: int) -> None:
        self.label, self.size, self.percent = label, size, -1
        self.live = sys.stderr.isatty()

    def draw(self, done: int) -> None:
        percent = 100 * done // max(self.size, 1)
        changed, started = percent != self.percent, self.percent >= 0
        self.percent = percent
        if not self.live and not started:
            print(f"fetching {self.label} ({self.size / 1e6:.1f} MB)", file=sys.stderr)
        if self.live and changed:
            bar = "#" * (percent // 5) + "-" * (20 - percent // 5)
            line = f"[{bar}] {percent:3d}% of {self.size / 1e6:.1f} MB  {self.label}"
            # A line that wraps could not be overwritten.
            print("\r" + line[: shutil.get_terminal_size().columns - 1], end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.live and self.percent >= 0:
            print(file=sys.stderr)
