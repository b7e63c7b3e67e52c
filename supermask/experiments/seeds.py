"""Runs the seeds of a config in groups that lie side by side, one phase per group, with or without a run folder."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import jax

from supermask.engine.callbacks import Callback
from supermask.engine.probe import probe
from supermask.engine.problem import Problem
from supermask.engine.programs import Start
from supermask.engine.state import Candidate, FitState
from supermask.engine.trainer import Trainer
from supermask.experiments.floors import floors_of, said
from supermask.experiments.options import Rows
from supermask.experiments.outcome import before_search, judged
from supermask.experiments.session import Session
from supermask.experiments.warnings import of_data, tell
from supermask.types import Tree

NAMED = ("arch", "dataset", "method", "init", "seed")
"""What a row of results says of its config."""

WAIT = 0.1
"""Share of the time of a training above which waiting for data is worth a remark, if it is more than a second."""


class Phases(Protocol):
    """Runs the phases of an experiment; implemented by `Session`, for a run folder, and by `Unsaved`."""

    @property
    def callbacks(self) -> tuple[Callback, ...]: ...

    def is_done(self, name: str) -> bool: ...

    def phase(self, name: str, trainer: Trainer, state: FitState, frozen: Any, until: int) -> FitState: ...


@dataclass(frozen=True)
class Unsaved:
    """Runs phases without a folder."""

    callbacks: tuple[Callback, ...] = ()

    def note(self, text: str) -> None:
        """Pass a message to all callbacks."""
        for callback in self.callbacks:
            callback.on_note(text)

    def is_done(self, name: str) -> bool:
        return False

    def phase(self, name: str, trainer: Trainer, state: FitState, frozen: Any, until: int) -> FitState:
        return trainer.fit(state, frozen, until, self.callbacks)


@dataclass(frozen=True)
class SeedGroup:
    """Seeds side by side after their phase.

    Attributes:
        name: name of the phase.
        frozen_trees: what is frozen for each seed, on the host.
        frozen: the same on the devices, see `Trainer.place`.
        compile_seconds: compile time of the whole group.
        early: the warnings about each seed that were told before its first step.
    """

    name: str
    trainer: Trainer
    state: FitState
    frozen_trees: list[Tree]
    frozen: Any
    compile_seconds: float
    early: list[list[str]]

    @property
    def chosen(self) -> list[Candidate]:
        """The last candidate of each seed, or the best one if the config says so or the training was stopped."""
        best = self.state.interrupted or self.trainer.problem.config.select == "best"
        return self.state.best if best else self.state.last

    def timings(self) -> dict[str, Any]:
        """Return images_per_second of one seed (those beside it run at the same rate), and seconds of the group.

        Where data streams, also the share of the time that the devices waited for it.
        """
        state, size = self.state, self.trainer.problem.pipeline.batch_size
        waited = {"data_wait": state.data_wait} if self.trainer.problem.streaming else {}
        return waited | {
            "images_per_second": state.steps_done * size / state.seconds if state.seconds else 0.0,
            "compile_seconds": self.compile_seconds,
            "train_seconds": state.seconds,
        }

    @property
    def remark(self) -> str:
        """Says how long the devices waited for data, if that matters."""
        share, seconds = self.state.data_wait, self.state.waited
        return f", {share:.0%} of it waiting for data (more --workers may help)" if share > WAIT and seconds > 1 else ""


def seed_groups(trainer: Trainer, begin: Callable[[int], tuple[Tree, Start]], phases: Phases) -> Iterator[SeedGroup]:
    """Run one phase for each group of seeds, skip groups that are done, and end after a group that is stopped.

    Args:
        begin: (seed) -> (frozen tree, initial trainable tree and method_state), on the host.
    """
    config, together = trainer.problem.config, trainer.sharding.seeds
    look, of_all = probe(trainer.problem, trainer.parametrization), of_data(trainer.problem.dataset)
    of_all += before_search(trainer.problem)
    tell(phases.callbacks, of_all)
    for first in range(config.seed, config.seed + config.seeds, together):
        name = f"seed {first}"
        if phases.is_done(name):
            continue
        compiled = trainer.steps.compile_seconds
        seeds = tuple(range(first, min(first + together, config.seed + config.seeds)))
        begun = [begin(seed) for seed in seeds]
        frozen_trees = [tree for tree, _ in begun]
        looks = [look(seed, *pair) for seed, pair in zip(seeds, begun, strict=True)]
        for seed, texts in zip(seeds, looks, strict=True):
            tell(phases.callbacks, texts, seed)
        frozen = trainer.place(frozen_trees)
        state = trainer.init(seeds, [start for _, start in begun])
        state = phases.phase(name, trainer, state, frozen, int(config.epochs or 0))
        seconds, early = trainer.steps.compile_seconds - compiled, [of_all + texts for texts in looks]
        yield SeedGroup(name, trainer, state, frozen_trees, frozen, seconds, early)
        if state.interrupted:
            return


class SeedExperiment(abc.ABC):
    """An experiment in a run folder that leaves one file and one row of results per seed.

    Attributes:
        kind: what the files hold; names them, and their columns in the rows.
        doing: what is done to a seed, for people.
    """

    kind: ClassVar[str]
    doing: ClassVar[str]

    @abc.abstractmethod
    def groups(self, problem: Problem, session: Session) -> Iterator[tuple[SeedGroup, list[Any]]]:
        """Run the phases that are not done; yield each group with the results of its seeds."""

    def row(self, found: Any) -> dict[str, Any]:
        """Return the columns that only this experiment has."""
        return {}

    def run(self, session: Session, problem: Problem) -> Rows:
        """See `Experiment.run`."""
        rows = session.folder.finished_rows()
        for group, results in self.groups(problem, session):
            own = []
            for found, warnings in zip(results, judged(group, results, session.callbacks), strict=True):
                session.options.note(
                    f"seed {found.config.seed}: {group.compile_seconds:.1f} s compiling, "
                    f"{group.state.seconds:.1f} s {self.doing}{group.remark}"
                )
                floors = floors_of(problem.dataset, "validation")
                if floors:
                    session.options.note(f"floors of validation: {said(floors)}")
                more: dict[str, Any] = {"floor": floors} if floors else {}
                own.append(self._write(session, found, group) | more | {"warnings": warnings})
            rows += own
            session.finish(group, own)
        return rows

    def _write(self, session: Session, found: Any, group: SeedGroup) -> dict[str, Any]:
        config, data = found.config, found.to_bytes()
        path = session.write(f"{self.kind}-s{config.seed}.safetensors", data)
        return {
            self.kind: str(path),
            "run": str(session.folder.path),
            **{key: getattr(config, key) for key in NAMED if hasattr(config, key)},
            "density": found.density,
            **{key: found.metrics[key] for key in ("epochs", "loss", "train_accuracy", "val_accuracy")},
            **group.timings(),
            f"{self.kind}_bytes": len(data),
            **self.row(found),
            "device": jax.devices()[0].device_kind,
        }
