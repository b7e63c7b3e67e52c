"""Several processes, on one host or on many, that work on one run as one: who they are, and what they agree on.

Process 0 leads: it alone writes. All others hold a connection to it, over which they exchange small values between
compiled calls, so that all make the same decisions. A process that ends says so first; a connection that ends without a
word means that a process has died, and then all others end too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from supermask.errors import SupermaskError
from supermask.runtime.jax_processes import start_jax, stop_jax
from supermask.runtime.meeting import PATIENCE, gather
from supermask.runtime.team import Hosts, Team

T = TypeVar("T")
GRACE = 10.0
"""Seconds to wait for the word why a call of JAX failed, which is nearly always that another process has gone."""

_team: Team | None = None


def processes() -> int:
    """Number of processes that work on this run as one."""
    return 1 if _team is None else _team.hosts.processes


def leads() -> bool:
    """Whether this process writes files and speaks for all."""
    return _team is None or _team.hosts.process == 0


def exchange(value: Any) -> list[Any]:
    """Return the values of all processes, in order; JSON values. All processes must call this."""
    return [value] if _team is None else _team.exchange(value)


def of_leader(value: T) -> T:
    """Return the value of process 0; a JSON value."""
    found: T = exchange(value)[0]
    return found


def data_of_leader(data: bytes) -> bytes:
    """Return the bytes of process 0; those of others are not looked at."""
    return data if _team is None else _team.from_leader(data)


def say_farewell(error: BaseException) -> None:
    """Tell the other processes, if there are any, that this one ends with an error."""
    if _team is not None:
        _team.farewell(error)


def end_if_joined(code: int) -> None:
    """End this process with an exit code if others could still be waited for, which JAX would do for minutes."""
    if _team is not None:
        os._exit(code)


@contextmanager
def joined(hosts: Hosts | None, facts: Mapping[str, Any], end: Callable[[SupermaskError], None]) -> Iterator[None]:
    """Work as one with the other processes of a run; with None, or one process, this one stays alone.

    Meanwhile what is written on stdout goes to stderr, for JAX's transport writes there.

    Args:
        facts: what must be the same in all processes.
        end: see `Team`.

    Raises:
        SupermaskError: not all processes came, or what they are to do differs.
    """
    global _team
    if hosts is None or hosts.processes == 1:
        yield
        return
    team, met = Team(hosts, end), False
    stdout = os.dup(1)
    try:
        os.dup2(2, 1)
        _team = team
        host, port = gather(team, facts)
        met = True
        start_jax(hosts.processes, hosts.process, host, port, PATIENCE)
        yield
        team.exchange("leave")
    except BaseException as error:
        if not isinstance(error, SupermaskError | KeyboardInterrupt):
            time.sleep(GRACE)  # another thread ends this process meanwhile if another process has gone
        team.farewell(error)
        if not met:
            _team = None  # this process may go on alone, or join others
        raise
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
    team.leaving, _team = True, None
    stop_jax()
    for peer in team.peers.values():
        peer.close()
