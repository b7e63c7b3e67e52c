"""A process that looks at image files for another one: requests on stdin, answers on stdout, both as pickles.

It ends when its stdin does, so it never outlives the process that started it, however that ends.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from supermask.errors import SupermaskError
from supermask.runtime import signals

if TYPE_CHECKING:
    import numpy as np

    from supermask.datasets._frames import View
    from supermask.datasets._images import Source, Survey

_LENGTH = struct.Struct("<Q")


def look(paths: Sequence[Source]) -> Survey:
    """See `_images.survey`."""
    from supermask.datasets._images import survey

    return survey(paths)


def read(paths: Sequence[Source], view: View, noise: Sequence[str]) -> np.ndarray:
    """The pixels of images, see `_images.decode`."""
    from supermask.datasets._images import decode

    return decode(paths, view, noise)[0]


def measure(paths: Sequence[Source], view: View) -> tuple[np.ndarray, np.ndarray, int]:
    """The pixels, how often each channel has each value, and the number of images with transparent pixels."""
    from supermask.datasets._images import decode
    from supermask.datasets._stats import counts

    images, transparent = decode(paths, view)
    return images, counts(images), transparent


FUNCTIONS = {function.__name__: function for function in (look, read, measure)}


def send(stream: IO[bytes], value: Any) -> None:
    """Write a value to the other process."""
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read a value from the other process.

    Raises:
        EOFError: it has ended.
    """
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        raise EOFError
    return pickle.loads(stream.read(_LENGTH.unpack(header)[0]))


def main() -> None:
    """Answer requests, one after the other."""
    signals.ignore()  # a batch system sends them to all processes; the one that started this one says when to end
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    with suppress(OSError):  # stderr is closed
        os.dup2(2, 1)  # whatever a library prints is no answer
    from supermask.datasets._images import strictly

    with strictly():
        while True:
            try:
                name, arguments = receive(requests)
            except EOFError:
                os._exit(0)
            try:
                answer: Any = FUNCTIONS[name](*arguments)
            except SupermaskError as error:
                answer = error
            try:
                send(answers, answer)
            except OSError:  # nobody waits for it any more
                os._exit(0)
