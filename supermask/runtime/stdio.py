"""Standard streams that may be closed, full, or have lost their reader: none of it may end a search."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any


class _Patient:
    """A stream that takes everything; what cannot be written is not missed."""

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
    """Open the three descriptors that are closed, so that no file takes their place, and make stderr patient."""
    for handle in (0, 1, 2):
        try:
            os.fstat(handle)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = _Patient(sys.stderr or os.fdopen(2, "w", closefd=False))
