"""Several trainings of the same seeds, one after the other, each from what those before it left.

Lottery tickets and forgetting are such chains. All trainings of a run share one set of compiled functions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from supermask.engine.evaluator import Evaluator
from supermask.engine.probe import probe
from supermask.engine.problem import Problem
from supermask.engine.pruned import pruned_training
from supermask.engine.saliency import Saliency
from supermask.engine.sharding import to_host
from supermask.engine.state import FitState
from supermask.engine.trainer import Trainer
from supermask.experiments.connect import Line
from supermask.experiments.floors import floors_of, said
from supermask.experiments.leg import Leg
from supermask.experiments.options import Rows
from supermask.experiments.outcome import judged
from supermask.experiments.search import versions
from supermask.experiments.seeds import NAMED, SeedGroup
from supermask.experiments.session import Pause, Session
from supermask.experiments.together import read_shared
from supermask.experiments.warnings import of_data, tell
from supermask.storage.container import seal, unseal
from supermask.types import Tree
from supermask.weights.parameters import masked_shapes
from supermask.weights.trained import TrainedWeights

START = "start"
Measure = Callable[[list[TrainedWeights]], Sequence[Mapping[str, Any]]]


@dataclass
class Chain:
    """The legs of a run.

    Attributes:
        rows: the results of all legs so far.
    """

    session: Session
    problem: Problem
    rows: Rows = field(default_factory=list)

    def __post_init__(self) -> None:
        self.trainer = Trainer(self.problem, pruned_training, self.problem.side_by_side())
        self.rows = self.session.folder.finished_rows()
        self._of_data = of_data(self.problem.dataset)
        self._look = probe(self.problem, pruned_training)
        tell(self.session.callbacks, self._of_data)
        if floors := floors_of(self.problem.dataset, "test"):
            self.session.options.note(f"floors of test: {said(floors)}")
        self._floors = {"floor": floors} if floors else {}

    def beside(self, problem: Problem) -> Chain:
        """A chain of the same run and rows whose problem differs in its schedule; it compiles its own steps."""
        other = copy.copy(self)
        other.problem = problem
        other.trainer = Trainer(problem, pruned_training, self.trainer.sharding)
        return other

    def groups(self) -> Iterator[tuple[int, ...]]:
        """The seeds of the config, as many together as lie side by side."""
        config, together = self.problem.config, self.trainer.sharding.seeds
        end = config.seed + config.seeds
        for first in range(config.seed, end, together):
            yield tuple(range(first, min(first + together, end)))

    def ones(self) -> Tree:
        """The mask of a dense network."""
        return {name: np.ones(shape, bool) for name, shape in masked_shapes(self.problem.parameters).items()}

    def train(
        self,
        seeds: tuple[int, ...],
        leg: Leg,
        measure: Measure | None = None,
        pauses: Mapping[int, Pause] | None = None,
    ) -> list[TrainedWeights] | None:
        """Run a leg, or load its results if it is done; return None if it is stopped.

        Args:
            measure: (results) -> more columns, of each seed.
            pauses: see `Session.phase`.
        """
        name, session = f"seed {seeds[0]} {leg.file}", self.session
        if session.is_done(name):
            paths = [session.folder.working / Path(row["weights"]).name for row in session.folder.phases[name]]
            return [TrainedWeights.from_bytes(read_shared(path) or b"", path) for path in paths]
        trainer, frozen_trees = self.trainer, leg.frozen()
        compiled, early = trainer.steps.compile_seconds, [list(self._of_data) for _ in seeds]
        if not leg.step and not any((~kept).any() for kept in leg.masks[0].values()):
            for i, seed in enumerate(seeds):
                texts = self._look(seed, frozen_trees[i], (leg.starts[i], {}))
                tell(session.callbacks, texts, seed)
                early[i] += texts
        frozen = trainer.place(frozen_trees)
        state = trainer.init(seeds, [(start, {}) for start in leg.starts], step=leg.step, noise=leg.noise)
        if leg.states:
            state.train = state.train._replace(model_state=trainer.place(leg.states))
        session.log.columns = dict(leg.columns)
        density = np.mean([tree["density"] for tree in frozen_trees])
        words = ", ".join(f"{key} {value}" for key, value in leg.columns.items())
        session.options.note(f"seed {', '.join(map(str, seeds))}: {words}, density {density:.4f}")
        session.phase(name, trainer, state, frozen, leg.until, pauses)
        compile_seconds = trainer.steps.compile_seconds - compiled
        group = SeedGroup(name, trainer, state, frozen_trees, frozen, compile_seconds, early)
        results = [
            self._result(seed, mask, candidate)
            for seed, mask, candidate in zip(seeds, leg.masks, group.chosen, strict=False)
        ]
        if state.interrupted:
            session.finish(group, [])
            return None
        self._write(group, leg, results, measure(results) if measure else [])
        return results

    def start(self, seed: int) -> Tree:
        """The weights that `keep` left of a seed, or its random ones if there are none.

        Raises:
            BadFileError: the file is damaged.
        """
        path = self.session.folder.working / f"{START}-s{seed}.safetensors"
        data = read_shared(path, or_none=True)
        return self.problem.weights(seed) if data is None else unseal(data, path, 1, START)[1]

    def keep(self, state: FitState, frozen: Any) -> None:
        """Keep the weights for `start`; a pause."""
        weights = to_host(state.train.trainable)
        for i, seed in enumerate(state.seeds):
            document = {"format": 1, "kind": START, "step": state.step, "seed": seed}
            self.session.write(f"{START}-s{seed}.safetensors", seal(document, {n: a[i] for n, a in weights.items()}))

    def _result(self, seed: int, mask: Tree, candidate: Any) -> TrainedWeights:
        problem = self.problem
        dense = all(kept.all() for kept in mask.values())
        filled = any((candidate.result[name][~kept] != 0).any() for name, kept in mask.items())
        return TrainedWeights(
            config=problem.config.replace(seed=seed, seeds=1),
            image_shape=problem.dataset.train.inputs.shape[1:],
            weights=candidate.result,
            mask={} if dense else mask,
            state=candidate.model_state,
            metrics=candidate.metrics,
            versions=versions(),
            parameters=problem.parameters,
            content=problem.content,
            filled=filled,
        )

    def _write(
        self, group: SeedGroup, leg: Leg, results: list[TrainedWeights], measured: Sequence[Mapping[str, Any]]
    ) -> None:
        session, rows = self.session, []
        tests = self._on_test(group)
        told = judged(group, results, session.callbacks)
        for i, (found, test, warnings) in enumerate(zip(results, tests, told, strict=True)):
            data = found.to_bytes()
            path = session.write(f"{leg.file}-s{found.config.seed}.safetensors", data)
            masks = leg.masks[i].values()
            rows.append(
                {
                    "weights": str(path),
                    "run": str(session.folder.path),
                    **{key: getattr(found.config, key) for key in NAMED if hasattr(found.config, key)},
                    **leg.columns,
                    **(leg.seen[i] if leg.seen else {}),
                    "density": found.density,
                    "kept": int(sum(kept.sum() for kept in masks)),
                    **{key: found.metrics[key] for key in ("epochs", "loss", "train_accuracy", "val_accuracy")},
                    **test,
                    **self._floors,
                    **(measured[i] if measured else {}),
                    **group.timings(),
                    "weights_bytes": len(data),
                    "device": jax.devices()[0].device_kind,
                    "warnings": warnings,
                }
            )
        self.rows += rows
        session.finish(group, rows)

    @cached_property
    def saliency(self) -> Saliency:
        """The gradient of the loss; compiled once for all seeds."""
        return Saliency(self.problem)

    @cached_property
    def line(self) -> Line:
        """Scores lines between networks, on the validation images."""
        return Line(self.problem)

    @cached_property
    def test_split(self) -> Evaluator:
        """Scores networks on the test images."""
        return Evaluator(self.problem, pruned_training, self.problem.dataset.test, self.trainer.sharding)

    def _on_test(self, group: SeedGroup) -> list[dict[str, float]]:
        """Loss and accuracy on the test images; nothing is chosen by them."""
        chosen, stack = group.chosen, self.trainer.sharding.stack_seeds
        trees = stack([c.result for c in chosen]), stack([c.model_state for c in chosen])
        sums = self.test_split(*trees, group.frozen, group.state.padded_seeds)
        assert sums is not None  # nobody stops it
        pairs = zip(sums.loss[0] / sums.count[0], sums.correct[0] / sums.count[0], strict=True)
        found = [{"test_loss": float(loss), "test_accuracy": float(accuracy)} for loss, accuracy in pairs]
        return found[: len(group.state.seeds)]
