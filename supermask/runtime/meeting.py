"""How the processes of a run find each other: process 0 listens, the others call until it answers."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from supermask.errors import SupermaskError, UsageError, one_line
from supermask.runtime.channel import END, Connection, listen
from supermask.runtime.team import Team, error_of

PATIENCE = 300.0
"""Seconds to wait until all processes are there."""


def gather(team: Team, facts: Mapping[str, Any]) -> tuple[str, int]:
    """Wait until all processes have joined; return host and port where JAX is to meet."""
    hosts = team.hosts
    own = json.loads(json.dumps({"processes": hosts.processes, **facts}))
    if hosts.process:
        return _join(team, own)
    until = time.monotonic() + PATIENCE
    try:
        door = listen(*hosts.address)
    except OSError as error:
        raise UsageError(f"cannot listen at {hosts.coordinator}: {one_line(error)}; --coordinator names it") from error
    with door:
        door.settimeout(1)
        while len(team.peers) < hosts.processes - 1:
            if time.monotonic() > until:
                missing = [str(i) for i in range(1, hosts.processes) if i not in team.peers]
                raise SupermaskError(f"after {PATIENCE:.0f} s, process {', '.join(missing)} has not joined")
            with suppress(TimeoutError):
                _admit(team, door.accept()[0], own)
        with listen(hosts.address[0], 0) as other:
            port = int(other.getsockname()[1])
    team.from_leader(json.dumps([port]).encode())
    return hosts.address[0], port


def _admit(team: Team, link: socket.socket, own: Mapping[str, Any]) -> None:
    """Let a process in; whoever does not greet as one is left standing."""
    peer = Connection(link)
    try:
        _, (process, name, there) = peer.greeting(5)
        if type(process) is not int:
            raise TypeError
        text = _difference(process, own, there)
    except (OSError, ValueError, TypeError, AttributeError):
        return peer.close()
    if not text and (process in team.peers or process not in range(1, team.hosts.processes)):
        text = f"process {process} on {name} joined twice, or is not from 1 to {team.hosts.processes - 1}"
    if text:
        peer.send_value([text, UsageError.exit_code], END)
        peer.close()
        raise UsageError(text)
    peer.send_value([socket.gethostname()])
    team.add(process, peer, str(name))
    return None


def _difference(process: int, own: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    keys = [key for key in {**own, **there} if own.get(key) != there.get(key)]
    texts = [f"{key} {there.get(key)!r} there, {own.get(key)!r} in process 0" for key in keys]
    return f"process {process} was called otherwise ({'; '.join(texts)}): give all the same words" if texts else ""


def _join(team: Team, own: Mapping[str, Any]) -> tuple[str, int]:
    hosts, until = team.hosts, time.monotonic() + PATIENCE
    while True:
        peer = None
        try:
            peer = Connection(socket.create_connection(hosts.address, timeout=5))
            peer.send_value([hosts.process, socket.gethostname(), own])
            kind, answer = peer.greeting(PATIENCE)
            break
        except (OSError, ValueError) as error:
            if peer is not None:
                peer.close()
            if time.monotonic() > until:
                raise SupermaskError(
                    f"process 0 is not at {hosts.coordinator} after {PATIENCE:.0f} s: {one_line(error)}"
                ) from error
            time.sleep(0.1)
    if kind == END:
        peer.close()
        raise error_of(str(answer[0]), int(answer[1]))
    team.add(0, peer, str(answer[0]))
    return hosts.address[0], int(json.loads(team.from_leader(b""))[0])
