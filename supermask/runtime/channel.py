"""Messages between two processes over TCP: frames of a kind and some bytes; no message is ever run as code."""

from __future__ import annotations

import json
import socket
import struct
import threading
from contextlib import suppress
from typing import Any

SILENCE = 20
"""Seconds after which a host that no longer answers is taken for dead. Its kernel answers, so a process that is busy,
or stopped for a while, is not."""

VALUE, DATA, END = b"v", b"d", b"e"
"""The kinds of frames: a JSON value, bytes, and the word that the sender ends."""

_HEADER = struct.Struct(">cQ")
_SMALL = 1 << 20  # the most bytes of a greeting: whoever sends more is not one of us


class Connection:
    """One end of a connection; frames may be sent by several threads, and received by one."""

    def __init__(self, link: socket.socket) -> None:
        self._link, self._sending = link, threading.Lock()
        link.settimeout(None)
        watch_over(link)

    def send(self, kind: bytes, data: bytes) -> None:
        """Send a frame. That the other end has gone is seen by whoever receives from it."""
        with self._sending, suppress(OSError):
            self._link.sendall(_HEADER.pack(kind, len(data)) + data)

    def send_value(self, value: Any, kind: bytes = VALUE) -> None:
        self.send(kind, json.dumps(value).encode())

    def receive(self, most: int | None = None) -> tuple[bytes, bytes]:
        """Return the next frame, as (kind, bytes).

        Raises:
            OSError: the other end has gone, or the frame is longer than `most`.
        """
        kind, size = _HEADER.unpack(self._exactly(_HEADER.size))
        if most is not None and size > most:
            raise OSError("a frame is too long")
        return kind, self._exactly(size)

    def greeting(self, seconds: float) -> Any:
        """Return the JSON value that the other end sends first.

        Raises:
            OSError, ValueError: it is not one of us, or too slow.
        """
        self._link.settimeout(seconds)
        kind, data = self.receive(_SMALL)
        self._link.settimeout(None)
        if kind not in (VALUE, END):
            raise ValueError("no greeting")
        return kind, json.loads(data)

    def close(self) -> None:
        with suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)
        self._link.close()

    def _exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = self._link.recv(min(size - len(parts), 1 << 20))
            if not part:
                raise OSError("the connection has ended")
            parts += part
        return bytes(parts)


def watch_over(link: socket.socket) -> None:
    """Let the kernel notice that the other host has gone, within SILENCE seconds."""
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", SILENCE // 4),
        ("TCP_KEEPINTVL", SILENCE // 4),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", SILENCE * 1000),
    ):
        if hasattr(socket, name):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def listen(host: str, port: int) -> socket.socket:
    """Listen at a port: for this machine alone if the host is this machine's own name for itself, else for any.

    Raises:
        OSError: the port is taken, or the host's name is unknown.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    if is_loopback(str(address[0])):
        return socket.create_server(address[:2], family=family)
    both = socket.has_dualstack_ipv6()
    return socket.create_server(("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both)


def is_loopback(address: str) -> bool:
    return address.startswith("127.") or address in ("::1", "localhost")


def relay(host: str, port: int) -> int:
    """Pass on what comes to a port of this machine to another one; return that port.

    When the other side ends a connection, this side is kept open: JAX ends a process at once, with a stack trace, when
    its connection to process 0 ends.
    """
    here = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_relay, args=(here, host, port), daemon=True).start()
    return int(here.getsockname()[1])


def _relay(here: socket.socket, host: str, port: int) -> None:
    kept = []
    while True:
        link = here.accept()[0]
        try:
            other = socket.create_connection((host, port), timeout=10)
        except OSError:  # not there yet: JAX tries again
            link.close()
            continue
        other.settimeout(None)
        for one in (link, other):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        kept += [link, other]
        threading.Thread(target=_pump, args=(link, other), daemon=True).start()
        threading.Thread(target=_pump, args=(other, link), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
