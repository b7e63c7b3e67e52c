"""Processes on this machine, several at a time, each with its own GPU or its own share of the CPU cores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class LocalJob:
    """A call that runs in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> int | None:
        """Return its exit code, negative if a signal killed it; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to save a checkpoint and end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)


class Local:
    """Runs at most one call per slot.

    Attributes:
        slots: number of calls at a time.
    """

    def __init__(self, jobs: int, gpus: Sequence[str] = ()) -> None:
        """
        Args:
            jobs: number of calls at a time; on a CPU they share its cores evenly.
            gpus: numbers or names of GPUs, as in CUDA_VISIBLE_DEVICES; call i gets GPU i modulo their number.
        """
        self.slots = jobs
        self._gpus = list(gpus)
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        share = len(cores) // jobs
        self._cores = [cores[i * share : (i + 1) * share] for i in range(jobs)] if share and not gpus else []
        self._all = cores

    def start(self, slot: int, arguments: Sequence[str], log: Path, lock: int) -> LocalJob:
        """Start `supermask ARGUMENTS`; its stderr goes to `log`, and it inherits the file `lock`.

        It leads a process group, so that Ctrl-C in a terminal reaches the sweep alone.
        """
        with log.open("wb") as file:
            process = self.spawn(
                slot,
                ["-m", "supermask", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
                pass_fds=(lock,),
                start_new_session=True,
            )
        return LocalJob(process)

    def spawn(self, slot: int, words: Sequence[str], **settings: Any) -> subprocess.Popen[bytes]:
        """Start Python with these words, on the cores and the GPU of a slot; `settings` are those of Popen."""
        environment = dict(os.environ)
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        if self._cores:
            os.sched_setaffinity(0, self._cores[slot])  # what is started now inherits it
        try:
            return subprocess.Popen([sys.executable, *words], env=environment, **settings)
        finally:
            if self._cores:
                os.sched_setaffinity(0, self._all)
