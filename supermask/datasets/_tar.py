"""Known members of a .tar.gz, read into memory; nothing is ever extracted by the names in the archive."""

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


def read_members(path: Path, names: Collection[str], limit: int = _LIMIT) -> dict[str, bytes]:
    """The content of the regular files `names` of the archive, those that it has.

    Raises:
        BadFileError: no .tar.gz, damaged, or its content is larger than `limit` bytes.
    """
    found: dict[str, bytes] = {}
    with reading(path), path.open("rb") as raw, gzip.GzipFile(fileobj=raw) as unzipped:
        bounded = io.BufferedReader(_Bounded(unzipped, path, limit), 1 << 20)
        try:
            with tarfile.open(fileobj=bounded, mode="r|") as archive:
                for member in archive:
                    plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
                    stream = archive.extractfile(member) if plain and member.name in names else None
                    if stream is not None:
                        found[member.name] = stream.read(member.size)
            while bounded.read(1 << 20):  # to the end, where gzip keeps its checksum
                pass
        except BadFileError:
            raise
        except (
            tarfile.TarError,
            gzip.BadGzipFile,
            zlib.error,
            EOFError,
            ValueError,
            IndexError,
            OverflowError,
        ) as error:
            raise BadFileError(f"{path} is a damaged .tar.gz archive: {one_line(error)[:200]}") from error
    return found


class _Bounded(io.RawIOBase):
    """The first `limit` bytes of a stream; more is an error, so that no archive keeps us busy for ever."""

    def __init__(self, stream: gzip.GzipFile, path: Path, limit: int) -> None:
        self._stream, self._path, self._limit, self._left = stream, path, limit, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._stream.readinto(buffer)
        self._left -= count
        if self._left < 0:
            raise BadFileError(
                f"{self._path} unpacks to more than {self._limit} bytes; it is no archive of this dataset"
            )
        return count
