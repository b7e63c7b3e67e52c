"""A server on the loopback interface that stands for the mirrors of official files."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import threading
import time

from supermask.datasets._fetch import Remote


class Server(http.server.ThreadingHTTPServer):
    """A mirror on the loopback interface: path -> bytes, and what was asked for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked, self.closing = files, list[str](), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path.startswith("/slow/"):
            time.sleep(0.5)
        if self.path.startswith("/stall/"):
            self.server.closing.wait()
        data = self.server.files.get(self.path)
        self.send_response(200 if data is not None else 404)
        # /short/ promises more than it sends.
        self.send_header("Content-Length", str(len(data or b"") + 10 * self.path.startswith("/short/")))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client may have given up
            self.wfile.write(data or b"")

    def log_message(self, format: str, *args: object) -> None:
        pass


def remote(name: str, data: bytes) -> Remote:
    return Remote(name, len(data), hashlib.sha256(data).hexdigest())
