"""Ray Core: a cluster that is there, as RAY_ADDRESS or `ray start` name it, or one of this machine alone."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from supermask.errors import StoppedError, SupermaskError, UsageError, one_line
from supermask.storage.lock import HELD

HANDED_ON = ("SUPERMASK_", "JAX_", "XLA_", "PYTHONPATH")
"""Beginnings of the variables that a call gets from this process; all others are those of its node."""
_LOOK = 0.2
"""Seconds between two looks at a cell that a call without a worker still has."""
_PLACES = 5
"""How often a call is given to Ray before one that never began is lost."""


class Worker:
    """Runs one call on a node of the cluster.

    Its process may outlive a worker that is killed. So the process holds a lock, and the next call of the same cell
    waits for it.

    Attributes:
        command: what is called.
    """

    command: tuple[str, ...] = (sys.executable, "-m", "supermask")

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def run(self, arguments: Sequence[str], folder: str, variables: Mapping[str, str], log: Path) -> int:
        """Run `supermask ARGUMENTS` in a folder; return its exit code."""
        with log.with_suffix(".worker").open("w") as lock:
            while not self._stopping and not _locked(lock.fileno()):
                time.sleep(_LOOK)
            if self._stopping:
                return StoppedError.exit_code
            with log.open("wb") as file:
                self._process = subprocess.Popen(
                    [*self.command, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=file,
                    cwd=folder,
                    env={**os.environ, **variables},
                    pass_fds=(lock.fileno(),),
                    start_new_session=True,
                )
            if self._stopping:  # meanwhile, in another thread
                self._process.terminate()
            return self._process.wait()

    def began(self) -> bool:
        """Return True, which Ray has from no worker that it lost on the way to a node."""
        return True

    def stop(self) -> None:
        """Ask the call to save a checkpoint and end."""
        self._stopping = True
        if self._process is not None:
            self._process.terminate()


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in HELD  # where there are no locks, the run folder has another guard
    return True


class RayJob:
    """A call that Ray runs, or will."""

    def __init__(self, ray: Any, worker: Any, arguments: tuple[Any, ...], log: Path) -> None:
        self._ray, self._new_worker, self._arguments, self._log = ray, worker, arguments, log
        self._places, self._stopping = 0, False
        self._submit()

    def _submit(self) -> None:
        self._places += 1
        self._worker = self._new_worker.remote()
        self._began, self._code = self._worker.began.remote(), self._worker.run.remote(*self._arguments)

    def poll(self) -> int | None:
        """Return its exit code, negative if a signal killed it and 1 if its worker is lost; None while it runs.

        For half a minute, until its health check notices, Ray sends calls to a node that is gone. Those go elsewhere.
        """
        if not self._ray.wait([self._code], timeout=0)[0]:
            return None
        try:
            code: int = self._ray.get(self._code)
        except self._ray.exceptions.RayTaskError as error:
            return self._failed(error, f"the call did not start there: {one_line(error.cause)}")
        except self._ray.exceptions.RayError as error:
            if not self._has_begun() and self._places < _PLACES and not self._stopping:
                self._submit()
                return None
            return self._failed(error, "Ray lost the worker, or its node")
        return code

    def _has_begun(self) -> bool:
        try:
            return bool(self._ray.get(self._began))
        except self._ray.exceptions.RayError:
            return False

    def _failed(self, error: Exception, line: str) -> int:
        with self._log.open("a", encoding="utf-8") as file:
            file.write(f"{error}\nsupermask: {line}\n")
        return SupermaskError.exit_code

    def stop(self) -> None:
        """Ask it to save a checkpoint and end."""
        self._stopping = True
        self._worker.stop.remote()


class Ray:
    """Runs at most one call per slot, each in an actor of its own.

    Attributes:
        slots: number of calls at a time.
    """

    def __init__(self, jobs: int | None = None, worker: type[Worker] = Worker) -> None:
        """
        Args:
            jobs: number of calls at a time; by default as many as the cluster has GPUs, or nodes if it has none. GPUs
                are divided evenly among them, or the cores of each node. A call uses all cores that it sees: where
                several share a node, hand `--devices` on to them.

        Raises:
            UsageError: Ray is not installed.
            SupermaskError: the cluster does not answer.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise UsageError("Ray is not installed here: pip install 'supermask[ray]'") from error
        if not ray.is_initialized():
            try:
                ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise SupermaskError(f"Ray does not start or does not answer: {one_line(error)}") from error
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        self.slots = jobs or gpus or len(nodes)
        if gpus:
            needs = {"num_cpus": 1.0, "num_gpus": min(1.0, gpus / self.slots)}
        else:
            on_a_node = -(-self.slots // len(nodes))
            needs = {"num_cpus": min(node.get("CPU", 1.0) for node in nodes) / on_a_node}
        self._ray, self._worker = ray, ray.remote(max_concurrency=2, **needs)(worker)

    def start(self, slot: int, arguments: Sequence[str], log: Path, lock: int) -> RayJob:
        """Let Ray run `supermask ARGUMENTS` where there is room; its stderr goes to `log`.

        The lock stays with this process alone: a call on another host has one of its own.
        """
        variables = {name: value for name, value in os.environ.items() if name.startswith(HANDED_ON)}
        return RayJob(self._ray, self._worker, (arguments, os.getcwd(), variables, log.absolute()), log)
