"""Standard streams that may be closed, full or without a reader; none of this may end a search."""

from __future__ import annotations

import codecs
import os
import sys
from contextlib import suppress
from typing import Any


class _Forgiving:
    """A text stream whose writes never fail: what cannot be written is dropped."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def secure() -> None:
    """Make sure that stdin, stdout and stderr are open, that any text can be written, and that writing to stderr never
    fails.

    A closed one is opened on the null device. Otherwise the next file to be opened would get its descriptor, and
    messages would be written into that file.
    """
    for handle in (0, 1, 2):
        try:
            os.fstat(handle)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, which is this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    codecs.register_error("supermask", _readable)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="supermask")  # type: ignore[union-attr]
    if codecs.lookup(sys.stdout.encoding).name == "ascii":  # no terminal is ASCII: it is a locale that says nothing
        sys.stdout.reconfigure(encoding="utf-8", errors="supermask")  # type: ignore[union-attr]
    sys.stderr = _Forgiving(sys.stderr)


def _readable(error: UnicodeError) -> tuple[bytes, int]:
    """Replace what an encoding lacks by escapes such as \\u6570; a byte of a file name that is no text stays itself."""
    assert isinstance(error, UnicodeEncodeError)
    parts = [
        bytes([ord(letter) - 0xDC00]) if "\udc80" <= letter <= "\udcff" else letter.encode("ascii", "backslashreplace")
        for letter in error.object[error.start : error.end]
    ]
    return b"".join(parts), error.end
