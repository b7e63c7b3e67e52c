"""Signals and the time limit as a wish to stop, which a search obeys between two compiled calls."""

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
"""Seconds that compiled code may keep Python from ending by itself while there is nothing to lose."""


class Stopping:
    """A context in which signals do not kill but ask; `stop_requested` says whether to stop.

    Attributes:
        nothing_to_lose: whether a signal may end the process at once: at the start, and while data are read and
            programs compiled. Ctrl-C pressed twice ends it at once, whatever is lost.
        clean_up: called before that.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._number: int | None = None
        self._old: dict[int, Any] = {}
        self._old_fd, self._left = -1, threading.Event()
        self._timer = threading.Timer(seconds, self._time_is_over) if seconds is not None else None
        self.nothing_to_lose = True
        self.clean_up: Callable[[], None] = lambda: None

    def stop_requested(self) -> bool:
        """Whether a signal came or the time is over."""
        return self._number is not None or (self._deadline is not None and time.monotonic() > self._deadline)

    def error(self, what: str) -> SupermaskError:
        """The error to end with, after `what` was done about the search's state."""
        return signals.stopped(self._number, what)

    def __enter__(self) -> Stopping:
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        if threading.current_thread() is not threading.main_thread():
            return self  # Python lets no other thread have a say in signals
        self._old = {number: signal.signal(number, self._handle) for number in signals.obeyed()}
        # Python obeys a signal once compiled code returns; the byte that is written here at once wakes a thread.
        receive, send = socket.socketpair()
        send.setblocking(False)
        self._sockets = receive, send
        self._old_fd = signal.set_wakeup_fd(send.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(receive,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        if self._timer is not None:
            self._timer.cancel()
        if not self._old:
            return
        signal.set_wakeup_fd(self._old_fd)
        for number, old in self._old.items():
            signal.signal(number, old)
        self._sockets[1].close()  # ends the thread

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self._number is not None and number == signal.SIGINT
        self._number = self._number or number
        if again or self.nothing_to_lose:
            self._leave()

    def _time_is_over(self) -> None:
        if self.nothing_to_lose and not self._left.is_set():
            self._leave()

    def _watch(self, receive: socket.socket) -> None:
        seen: list[int] = []
        while data := receive.recv(1):
            seen.append(data[0])
            at_once = self.nothing_to_lose or seen.count(signal.SIGINT) > 1
            if data[0] in self._old and at_once and not self._left.wait(GRACE):
                self._number = self._number or data[0]
                self._leave()
        receive.close()

    def _leave(self) -> None:
        error = self.error("nothing was lost" if self.nothing_to_lose else "at once")
        with suppress(Exception):
            self.clean_up()
        signals.end(error)
