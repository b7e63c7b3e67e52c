"""The processes that work on one run, and the connections between process 0 and the others."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from supermask.errors import SupermaskError, UsageError, one_line
from supermask.runtime.channel import DATA, END, Connection

OWN_WORD = 2.0
"""Seconds in which a process may end by itself when another one has ended with an error: it may be the error of all,
and then each cleans up."""
LEADERS_WORD = 10.0
"""The same for process 0, which has more to clean up."""


@dataclass(frozen=True)
class Hosts:
    """The processes of a run, as one of them is told.

    Attributes:
        coordinator: HOST:PORT of process 0.
        processes, process: how many there are, and which of them this one is.
    """

    coordinator: str
    processes: int
    process: int

    def __post_init__(self) -> None:
        host, _, port = self.coordinator.rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 65536):
            raise UsageError(f"coordinator is {self.coordinator!r}; it must be HOST:PORT of process 0")
        if self.processes < 1:
            raise UsageError(f"processes is {self.processes}; it must be at least 1")
        if not 0 <= self.process < self.processes:
            raise UsageError(f"process is {self.process}; it must be from 0 to {self.processes - 1}")

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.coordinator.rpartition(":")
        return host.strip("[]"), int(port)

    def local(self, devices: int | None) -> int | None:
        """The number of devices of this process, of a run that has so many."""
        return None if devices is None else -(-devices // self.processes)


class Team:
    """The processes that this one has joined.

    Attributes:
        end: called, by any thread, with the error that ends this process because another one has ended.
    """

    def __init__(self, hosts: Hosts, end: Callable[[SupermaskError], None]) -> None:
        self.hosts, self._end = hosts, end
        self.peers: dict[int, Connection] = {}
        self._names: dict[int, str] = {}
        self._inbox: dict[int, queue.SimpleQueue[tuple[bytes, bytes]]] = {}
        self.leaving, self._ending = False, threading.Lock()
        self._failed = False  # by an error of this process; another thread ends it after one of others

    def add(self, process: int, peer: Connection, name: str) -> None:
        """Listen to another process from now on."""
        self.peers[process], self._names[process] = peer, name
        self._inbox[process] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(process,), daemon=True).start()

    def exchange(self, value: Any) -> list[Any]:
        """Return the values of all processes, in order.

        Raises:
            SupermaskError: the run that they shared has ended with an error.
        """
        self._require_run()
        if self.hosts.process:
            self.peers[0].send_value(value)
            found: list[Any] = json.loads(self._take(0))
            return found
        found = [value, *(json.loads(self._take(process)) for process in range(1, self.hosts.processes))]
        for peer in self.peers.values():
            peer.send_value(found)
        return found

    def from_leader(self, data: bytes) -> bytes:
        """Return the bytes of process 0; raises as `exchange` does."""
        self._require_run()
        if self.hosts.process:
            return self._take(0)
        for peer in self.peers.values():
            peer.send(DATA, data)
        return data

    def _require_run(self) -> None:
        if self._failed:  # only a Python program comes here: a command has ended
            raise SupermaskError(
                "the run that this process shared with others has ended with an error, and JAX cannot leave them: "
                "start a new process"
            )

    def farewell(self, error: BaseException) -> None:
        """Tell all others that this process ends with an error."""
        with self._ending:
            if self.leaving:
                return
            self.leaving = self._failed = True
        text = f"process {self.hosts.process} on {socket.gethostname()}: {one_line(error)}"
        self._tell(text, error.exit_code if isinstance(error, SupermaskError) else 1)

    def _take(self, process: int) -> bytes:
        return self._inbox[process].get()[1]

    def _tell(self, text: str, code: int) -> None:
        for peer in self.peers.values():
            peer.send_value([text, code], END)

    def _listen(self, process: int) -> None:
        peer = self.peers[process]
        with suppress(OSError, ValueError):
            while True:
                kind, data = peer.receive()
                if kind == END:
                    text, code = json.loads(data)
                    return self._end_too(str(text), int(code), OWN_WORD if self.hosts.process else LEADERS_WORD)
                self._inbox[process].put((kind, data))
        self._end_too(
            f"process {process} on {self._names[process]} has ended without a word, so all others end too; the same "
            "command in all processes goes on from the last checkpoint, if there is one",
            SupermaskError.exit_code,
        )

    def _end_too(self, text: str, code: int, seconds: float = 0) -> None:
        """End this process, unless it does so by itself within some seconds."""
        if not (self.hosts.process or self.leaving):
            self._tell(text, code)
        time.sleep(seconds)
        with self._ending:
            if self.leaving:
                return
            self.leaving = True
        self._end(error_of(text, code))


def error_of(text: str, code: int) -> SupermaskError:
    """The error with which another process ended."""
    error = SupermaskError(text)
    error.exit_code = code
    return error
