"""Session: a run in progress, between its folder and the trainers of its phases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supermask.engine.callbacks import Callback
from supermask.experiments.callbacks import Checkpoints, Log, Stops
from supermask.experiments.options import Rows, RunOptions
from supermask.experiments.together import Together, require_same
from supermask.runs.folder import RunFolder
from supermask.runtime import hosts
from supermask.runtime.stopping import Stopping

if TYPE_CHECKING:
    from supermask.engine.state import FitState
    from supermask.engine.trainer import Trainer
    from supermask.experiments.seeds import SeedGroup


Pause = Callable[["FitState", Any], None]
"""(state, what is frozen, on the devices) -> None"""


class Session:
    """A run in progress; an experiment runs its phases through it.

    Attributes:
        log: writes metrics; its `columns` are in each row.
        goes_on: says where the same call resumes after a stop; None while nothing has stopped the run.
    """

    def __init__(self, folder: RunFolder, options: RunOptions, stopping: Stopping) -> None:
        self.folder, self.options, self.stopping = folder, options, stopping
        self._checkpoints = Checkpoints(folder, options.checkpoints)
        self.log = Log(folder)
        self.callbacks: tuple[Callback, ...] = (*options.callbacks, self.log, Stops(stopping), self._checkpoints)
        if hosts.processes() > 1:
            self.callbacks = (Together(self.callbacks, stopping),)
        self.goes_on: str | None = None

    def is_done(self, phase: str) -> bool:
        """Whether a phase is finished; its results are then in `folder.phases`."""
        return phase in self.folder.phases

    def phase(
        self,
        name: str,
        trainer: Trainer,
        state: FitState,
        frozen: Any,
        until: int,
        pauses: Mapping[int, Pause] | None = None,
    ) -> FitState:
        """Run `Trainer.fit` with this run's callbacks, resuming at the newest checkpoint if it is from this phase.

        Args:
            pauses: step -> what is called before it. At the step of a checkpoint it may be called once more.
        """
        from supermask.engine.snapshot import Snapshot  # imports JAX

        self._checkpoints.phase = name
        if self.folder.resumed and self.folder.resumed[0].get("phase") == name:
            snapshot = Snapshot.unpack(*self.folder.resumed)
            trainer.restore(state, snapshot)
            self.options.note(f"going on from step {snapshot.step} of seed {snapshot.first}")
        self.folder.resumed = None
        for step, pause in sorted((pauses or {}).items()):
            if state.step > step:
                continue
            trainer.fit(state, frozen, until, self.callbacks, pause=step)
            if state.interrupted:
                return state
            pause(state, frozen)
        return trainer.fit(state, frozen, until, self.callbacks)

    def write(self, name: str, data: bytes) -> Path:
        """Write a result file. Now there is something to lose, so from here on no signal ends the process at once."""
        require_same("result", [data])
        path = self.folder.add_file(name, data)
        self.stopping.nothing_to_lose = False
        return path

    def finish(self, group: SeedGroup, rows: Rows) -> None:
        """Keep the results of a finished phase for the next checkpoint; if it was stopped, note where it resumes."""
        if group.state.interrupted:
            self.goes_on = self._checkpoints.goes_on
        else:
            self.folder.phases[group.name] = rows
