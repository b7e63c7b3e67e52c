"""Looks at many image files at once: in processes, or in threads of this one.

Processes of Python's own pools run the user's script once more, and outlive a process that is killed. These do neither.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import supermask
from supermask.datasets import _worker
from supermask.errors import SupermaskError
from supermask.runtime.futures import in_order
from supermask.runtime.memory import cores

_PIECE = 32

_START = """
import sys
sys.path.insert(0, sys.argv[1])
import supermask
del sys.path[0]
from supermask.datasets._worker import main
main()
"""


class Pool:
    """Runs the functions of `_worker` on pieces of a list of files.

    Args:
        workers: number of processes; 0 for threads. They start when there is work, and end with the pool.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._started: list[subprocess.Popen[bytes]] = []
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        threads = workers or cores()
        self._threads, self._most = ThreadPoolExecutor(threads, thread_name_prefix="supermask-images"), 4 * threads
        weakref.finalize(self, _end, self._threads, self._started)

    def map(self, name: str, requests: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Yield the result of a function of `_worker` for each request, in order.

        Raises:
            BadFileError: an image cannot be read.
            SupermaskError: a process ended.
        """
        if self.workers:
            self._start()
        else:
            _raise_limits()
        function = partial(self._in_process, name) if self.workers else partial(_call, name)
        yield from in_order(self._threads, function, requests, self._most)

    def _start(self) -> None:
        while len(self._started) < self.workers:
            root = str(Path(supermask.__file__).parents[1])
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, root],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the process that started it
            )
            self._started.append(process)
            self._idle.put(process)

    def _in_process(self, name: str, arguments: tuple[Any, ...]) -> Any:
        process = self._idle.get()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _worker.send(process.stdin, (name, arguments))
            answer = _worker.receive(process.stdout)
        except (OSError, EOFError) as error:
            self._idle.put(process)  # whoever is next learns the same
            raise SupermaskError(
                f"a process that decodes images ended with code {process.wait()}, perhaps for lack of memory: try "
                "fewer --workers"
            ) from error
        self._idle.put(process)
        if isinstance(answer, Exception):
            raise answer
        return answer


def pieces(count: int) -> list[slice]:
    """Cut the numbers from 0 to count - 1 into pieces, one for each request."""
    return [slice(start, start + _PIECE) for start in range(0, count, _PIECE)]


def _call(name: str, request: tuple[Any, ...]) -> Any:
    return _worker.FUNCTIONS[name](*request)


def _raise_limits() -> None:
    """What `_images.strictly` sets, for good: threads cannot take turns in changing and restoring it."""
    from PIL import PngImagePlugin

    from supermask.datasets._images import METADATA

    PngImagePlugin.MAX_TEXT_CHUNK = METADATA


def _end(threads: ThreadPoolExecutor, processes: list[subprocess.Popen[bytes]]) -> None:
    threads.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        for stream in process.stdin, process.stdout:
            with suppress(OSError):
                stream.close()  # type: ignore[union-attr]
    for process in processes:
        process.wait()
