"""Signals and the time limit as requests to stop, which a search obeys between two compiled calls."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from supermask.errors import SupermaskError
from supermask.runtime import signals

GRACE = 2.0
"""Seconds to wait for compiled code to return, so that Python can end by itself, before the process is ended."""


class Stopping:
    """A context in which a signal does not kill the process but requests a stop; `stop_requested` tells.

    A second Ctrl-C ends the process at once, whatever is lost.

    Args:
        seconds: the time limit, counted from here; None for no limit.
        ends_process: whether the process may be ended here, as a command may; False for callers in Python, to whom a
            stop is an exception: raised after the first step at the earliest, or by a second Ctrl-C.

    Attributes:
        nothing_to_lose: a signal or the time limit may end the process at once. True until the first step, while data
            are read and programs compiled: until then there is no progress to lose. Whoever makes progress sets it to
            False.
        clean_up: called before the process is ended at once.
        last_words: called before that with the error, if this process itself is asked to end at once.
    """

    def __init__(self, seconds: float | None = None, *, ends_process: bool = True) -> None:
        self._ends_process = ends_process
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._number: int | None = None
        self._old: dict[int, Any] = {}
        self._old_fd, self._exited = -1, threading.Event()
        self._timer = threading.Timer(seconds, self._time_limit_reached) if seconds is not None else None
        self.nothing_to_lose = True
        self.clean_up: Callable[[], None] = lambda: None
        self.last_words: Callable[[SupermaskError], None] = lambda error: None

    def stop_requested(self) -> bool:
        """Whether a signal came or the time limit was reached."""
        return self._number is not None or (self._deadline is not None and time.monotonic() >= self._deadline)

    @property
    def cause(self) -> int | None:
        """Why a stop is requested: the number of a signal, or 0 for the time limit; None if none is."""
        return (self._number or 0) if self.stop_requested() else None

    def follow(self, cause: int) -> None:
        """Request a stop because another process of this run was asked to stop, see `cause`."""
        if cause:
            self._number = self._number or cause
        else:
            self._deadline = time.monotonic()

    def end(self, error: SupermaskError) -> None:
        """Clean up and end the process with an error, whatever it is doing; any thread may call this."""
        with suppress(Exception):
            self.clean_up()
        signals.end(error)

    def error(self, what: str) -> SupermaskError:
        """The error to end with; `what` says what became of the progress and ends the message."""
        return signals.stopped(self._number, what)

    def __enter__(self) -> Stopping:
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        if threading.current_thread() is not threading.main_thread():
            return self  # Python lets only the main thread set handlers
        self._old = {number: signal.signal(number, self._handle) for number in signals.obeyed()}
        # Python calls a handler only after compiled code returns. The signal's number, however, is written to this
        # socket at once, where a thread waits for it.
        receive, send = socket.socketpair()
        send.setblocking(False)
        self._sockets = receive, send
        self._old_fd = signal.set_wakeup_fd(send.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(receive,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exited.set()
        if self._timer is not None:
            self._timer.cancel()
        if not self._old:
            return
        signal.set_wakeup_fd(self._old_fd)
        for number, old in self._old.items():
            signal.signal(number, old)
        self._sockets[1].close()  # ends the thread that watches

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self._number is not None and number == signal.SIGINT
        self._number = self._number or number
        if self._ends_process and (again or self.nothing_to_lose):
            self._end_now()
        elif again:
            raise KeyboardInterrupt

    def _time_limit_reached(self) -> None:
        if self.nothing_to_lose and not self._exited.is_set():
            self._end_now()

    def _watch(self, receive: socket.socket) -> None:
        seen: list[int] = []
        while data := receive.recv(1):
            seen.append(data[0])
            at_once = self._ends_process and (self.nothing_to_lose or seen.count(signal.SIGINT) > 1)
            if data[0] in self._old and at_once and not self._exited.wait(GRACE):
                self._number = self._number or data[0]
                self._end_now()
        receive.close()

    def _end_now(self) -> None:
        lost = "nothing" if self.nothing_to_lose else "progress since the last checkpoint"
        error = self.error(f"{lost} was lost")
        with suppress(Exception):
            self.last_words(error)
        self.end(error)
