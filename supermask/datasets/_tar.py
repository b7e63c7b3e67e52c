"""Read known members of a .tar.gz or .tar into memory; no file is ever written to a path that the archive names."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path

from supermask.datasets._check import reading
from supermask.errors import BadFileError, one_line

_LIMIT = 1 << 28  # bytes of the whole content; the CIFAR archives unpack to 184 MB
_GZIP = b"\x1f\x8b"
_DAMAGE = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, IndexError, OverflowError)


def read_members(path: Path, names: Collection[str], limit: int = _LIMIT) -> dict[str, bytes]:
    """The contents of those of the regular files `names` that the archive has.

    Raises:
        BadFileError: neither .tar.gz nor .tar, damaged, or its content is larger than `limit` bytes.
    """
    found: dict[str, bytes] = {}
    with reading(path), path.open("rb") as raw, gzip.GzipFile(fileobj=raw) as unzipped:
        stream = unzipped if raw.peek(2)[:2] == _GZIP else raw
        bounded = io.BufferedReader(_Bounded(stream, path, limit), 1 << 20)
        try:
            with tarfile.open(fileobj=bounded, mode="r|") as archive:
                for member in archive:
                    plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
                    name = member.name.removeprefix("./")
                    content = archive.extractfile(member) if plain and name in names else None
                    if content is not None:
                        found[name] = content.read(member.size)
            while bounded.read(1 << 20):  # on to the end, where gzip keeps its checksum
                pass
        except BadFileError:
            raise
        except _DAMAGE as error:
            raise BadFileError(f"{path} is a damaged archive (.tar.gz or .tar): {one_line(error)[:200]}") from error
    return found


class _Bounded(io.RawIOBase):
    """A stream of at most `limit` bytes; more is an error, so that no archive keeps us busy for ever."""

    def __init__(self, stream: gzip.GzipFile | io.BufferedReader, path: Path, limit: int) -> None:
        self._stream, self._path, self._limit, self._left = stream, path, limit, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._stream.readinto(buffer)
        self._left -= count
        if self._left < 0:
            raise BadFileError(
                f"{self._path} unpacks to more than {self._limit} bytes; it is not the archive of this dataset"
            )
        return count
