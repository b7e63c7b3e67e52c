"""Fetch missing files once, from the first mirror that has the right bytes.

Pooch downloads and verifies one file from one URL. What it lacks is added here: several mirrors for a file, a limit on
the size, files that appear all together or not at all, and failures that fit on one line.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supermask.datasets._whole import whole_folder
from supermask.errors import BadFileError, UsageError, one_line
from supermask.runtime.places import NO_HOME

TIMEOUT = (10.0, 30.0)
"""Seconds to wait for a connection, and for the next bytes."""

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Remote:
    """A file on the official mirrors: its name, its size in bytes and its SHA-256 in hex."""

    name: str
    size: int
    sha256: str


class _FetchError(Exception):
    """Why fetching failed; becomes part of the one line."""


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
        files: what to download; each is verified by its SHA-256.
        target: the folder to create; it does not exist or is empty.
        into: the folder where a user would put the files by hand, for the message.
        unpack: changes the content of the folder that holds the downloads, before it becomes `target`.
        timeout: seconds to wait for a connection, and for the next bytes.

    Raises:
        BadFileError: no network, SUPERMASK_OFFLINE is set, every mirror failed or the folder cannot be written; the
            message names the URL and where the files belong.
        UsageError: there is no folder to keep them in, see `NO_HOME`.
    """
    if target.is_relative_to(NO_HOME):
        raise UsageError(f"you have no home folder to keep {name} in (HOME is not set); name a folder with --data-dir")
    try:
        if os.environ.get("SUPERMASK_OFFLINE", "0") not in ("", "0"):
            raise _FetchError("SUPERMASK_OFFLINE is set")
        with whole_folder(target) as part:
            order = list(mirrors)
            for file in files:
                good = _download(name, file, order, part, timeout)
                # The next file starts with this mirror, so that a dead one costs its timeout only once.
                order = [good, *(mirror for mirror in order if mirror != good)]
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


def _download(name: str, file: Remote, mirrors: Sequence[str], folder: Path, timeout: tuple[float, float]) -> str:
    """Download one file and return the mirror that had it."""
    import pooch

    # `identity`: if a server compressed on the way, the size would not be that of the file.
    http = pooch.HTTPDownloader(chunk_size=_CHUNK, timeout=timeout, headers={"Accept-Encoding": "identity"})

    def save(url: str, output_file: str, caller: Any) -> None:
        with closing(_Output(output_file, file.size, f"{name}: {url}")) as output:
            http(url, output, caller)

    reasons = []
    for mirror in mirrors:
        try:
            with _quiet(pooch.get_logger()):
                pooch.retrieve(
                    mirror + file.name,
                    known_hash=f"sha256:{file.sha256}",
                    fname=file.name,
                    path=folder,
                    downloader=save,
                )
            return mirror
        except Exception as error:  # requests, urllib3, ssl and servers fail in many ways; the next mirror may work
            reasons.append(f"{mirror.partition('//')[2].partition('/')[0]}: {_reason(error)}")
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


class _Output:
    """The file that a download is written to: it takes no more than `size` bytes, so no endless answer fills the disk.

    Shows a bar on stderr if that is a terminal, else one line. Nothing is shown before the first bytes arrive, so
    without a network the error is the only line. (Pooch's own hook for a bar counts whole chunks, not bytes.)
    """

    def __init__(self, path: str, size: int, label: str) -> None:
        self.file = open(path, "wb")  # noqa: SIM115
        self.size, self.label = size, label
        self.done, self.percent = 0, -1
        self.live = sys.stderr.isatty()

    def write(self, data: bytes) -> None:
        self.done += len(data)
        if self.done > self.size:
            raise _FetchError(f"more than the {self.size} bytes expected")
        self.file.write(data)
        self._show()

    def flush(self) -> None:
        """Do nothing: Pooch flushes after every chunk, but flushing once at the end is enough."""

    def close(self) -> None:
        self.file.close()
        if self.live and self.percent >= 0:
            print(file=sys.stderr)

    def _show(self) -> None:
        before, self.percent = self.percent, 100 * self.done // max(self.size, 1)
        size = f"{self.size / 1e6:.1f} MB"
        if not self.live and before < 0:
            print(f"fetching {self.label} ({size})", file=sys.stderr)
        if self.live and self.percent != before:
            bar = "#" * (self.percent // 5) + "-" * (20 - self.percent // 5)
            line = f"[{bar}] {self.percent:3d}% of {size}  {self.label}"
            # A line that wraps could not be overwritten.
            print("\r" + line[: shutil.get_terminal_size().columns - 1], end="", file=sys.stderr, flush=True)
