"""Which training examples forgetting hurts most: the measurement of targeted forgetting, and mislabelled examples.

Source: Zhou et al. 2022, arXiv 2202.00155, section 4. A copy of a trained network forgets something and is scored on
groups of training examples. The network itself is left as it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from supermask.data.splits import noun_of
from supermask.engine.margins import Margins
from supermask.engine.problem import Problem
from supermask.engine.pruned import pruned_training
from supermask.engine.sharding import to_host
from supermask.engine.state import FitState
from supermask.engine.trainer import Trainer
from supermask.errors import BadFileError, UsageError, one_line
from supermask.experiments.chain import Chain
from supermask.experiments.leg import Leg
from supermask.experiments.scores import Placed, placed
from supermask.experiments.together import read_shared
from supermask.masks.ranking import keep_fractions, prune
from supermask.types import Dataset, Split, Tree
from supermask.weights import forgetting
from supermask.weights.actions import Action
from supermask.weights.parameters import masked_shapes
from supermask.weights.streams import permutation, stream

HARD = 0.1
"""Share of the examples that are called hard: those with the lowest margins."""
RANDOM, LARGEST = 0.5, 0.3
"""Fraction of each layer that the two probes keep."""
FILE = "probes.json"


def check_labels(dataset: Dataset) -> None:
    """Check that examples are images with one label each, whose labels can be wrong and whose margins can be ranked.

    Raises:
        UsageError: they are sequences.
    """
    if noun_of(dataset) != "images":
        raise UsageError("--probe and --label-noise are about images with a label each, not tokens: leave them out")


def mislabelled(labels: np.ndarray, fraction: float) -> np.ndarray:
    """Which examples get a wrong label: round(fraction * n) at random, the same for all seeds."""
    order = permutation(len(labels), stream("mislabelled"))
    chosen = np.zeros(len(labels), bool)
    chosen[order[: round(fraction * len(labels))]] = True
    return chosen & (labels >= 0)


def with_wrong_labels(problem: Problem, fraction: float) -> Problem:
    """The problem with another class, drawn at random, as the label of a fraction of its training examples."""
    train, classes = problem.dataset.train, len(problem.dataset.classes)
    wrong = mislabelled(train.targets, fraction)
    shift = 1 + stream("wrong labels").random_raw(len(train)) % np.uint64(max(1, classes - 1))
    labels = np.where(wrong, (train.targets + shift.astype(np.int64)) % classes, train.targets)
    split = Split(train.inputs, labels.astype(train.targets.dtype))
    return replace(problem, dataset=replace(problem.dataset, train=split))


class Network(NamedTuple):
    """A network that is probed: its weights, and its state, such as batch statistics."""

    weights: Tree
    state: Tree


@dataclass
class Targets:
    """Probes trained networks.

    Attributes:
        label_noise: the fraction of training examples that have a wrong label.
    """

    chain: Chain
    label_noise: float

    def __call__(self, seeds: tuple[int, ...], nets: Sequence[Network], generation: int) -> list[list[dict[str, Any]]]:
        """Return rows of each network: probe, group of training examples, their number, accuracy before and after."""
        own = placed(self.chain, seeds, [net.weights for net in nets], [net.state for net in nets])
        groups = self._groups(own, len(seeds))
        before = self._accuracies(own, groups)
        found: list[list[dict[str, Any]]] = [[] for _ in seeds]
        for probe, copies in self._copies(seeds, nets, generation).items():
            after = self._accuracies(placed(self.chain, seeds, copies, [net.state for net in nets]), groups)
            for i, rows in enumerate(found):
                for name, group in groups.items():
                    row = {"probe": probe, "group": name, "examples": int(group[i].sum())}
                    rows.append({**row, "before": before[name][i], "after": after[name][i]})
        return found

    def _copies(self, seeds: tuple[int, ...], nets: Sequence[Network], generation: int) -> dict[str, list[Tree]]:
        """What each probe makes of the networks."""
        problem = self.chain.problem
        shapes = masked_shapes(problem.parameters)
        keep = {
            fraction: keep_fractions(problem.parameters, conv=fraction, dense=fraction, head=(1 + fraction) / 2)
            for fraction in (RANDOM, LARGEST)
        }
        ones, random, largest = self.chain.ones(), [], []
        for seed, net in zip(seeds, nets, strict=True):
            key = f"probe {generation}"
            some = forgetting.random_weights(f"{seed} {key}", shapes, keep[RANDOM])
            values = forgetting.fresh("pytorch", f"{seed} {key}", generation, problem.parameters)
            random.append(forgetting.replaced(net.weights, some, values))
            top = prune({name: np.abs(net.weights[name]) for name in shapes}, ones, keep[LARGEST], key=f"{seed}/{key}")
            initial = problem.weights(seed)
            kept = net.weights | {name: initial[name] for name in shapes}
            largest.append(Action(pruned="zero-start")(seed, kept, net.weights, top)[0])
        return {"random-reset": random, "largest-rewound": largest}

    def _groups(self, own: Placed, count: int) -> dict[str, np.ndarray]:
        """Name of a group -> which examples it has, of each seed."""
        margins = self._margins(*own)[:count]
        rank = margins.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
        hard = rank < max(1, round(HARD * margins.shape[1]))
        found = {"hard": hard, "easy": ~hard}
        if self.label_noise:
            wrong = np.broadcast_to(
                mislabelled(self.chain.problem.dataset.train.targets, self.label_noise), margins.shape
            )
            found |= {"wrong label": wrong, "right label": ~wrong}
        return found

    def _accuracies(self, networks: Placed, groups: dict[str, np.ndarray]) -> dict[str, list[float]]:
        """Accuracy of each seed's network on its groups; the other examples have the label -1, which never counts."""
        labels, scorer = self.chain.problem.dataset.train.targets, self.chain.trainer.steps.training_split
        found: dict[str, list[float]] = {}
        for name, members in groups.items():
            found[name] = []
            for i, member in enumerate(members):
                sums = scorer.relabelled(np.where(member, labels, -1).astype(labels.dtype))(*networks)
                assert sums is not None  # nobody stops it
                found[name].append(float(sums.correct[0, i] / max(1, sums.count[0, i])))
        return found

    @cached_property
    def _margins(self) -> Margins:
        trainer = self.chain.trainer
        return Margins(self.chain.problem, pruned_training, trainer.steps.training_split.pieces, trainer.sharding)


def networks(trainer: Trainer, state: FitState, frozen: Any) -> list[Network]:
    """The networks of a training at its present step, one per seed."""
    result, _ = trainer.steps.result(state, frozen)
    weights, states = to_host((result, state.train.model_state))
    each = range(len(state.seeds))
    return [Network(*({name: a[i] for name, a in tree.items()} for tree in (weights, states))) for i in each]


@dataclass
class Probes:
    """The probes of a run: those during a training lie in `probes.json`, for a run that is stopped in between."""

    targets: Targets

    def add(self, leg: Leg, step: int, seeds: tuple[int, ...], nets: Sequence[Network]) -> None:
        """Probe networks that have been trained for a number of steps."""
        for seed, rows in zip(seeds, self._rows(leg, [step] * len(seeds), seeds, nets), strict=True):
            self._earlier.setdefault(f"{leg.file}-s{seed}", {})[str(step)] = rows
        self.targets.chain.session.write(FILE, json.dumps(self._earlier).encode())

    def columns(
        self, leg: Leg, steps: Sequence[int], seeds: tuple[int, ...], nets: Sequence[Network]
    ) -> list[dict[str, Any]]:
        """Probe networks after their last steps; return the column `probe` of each, with the earlier ones first."""
        found = []
        for seed, rows in zip(seeds, self._rows(leg, steps, seeds, nets), strict=True):
            before = self._earlier.get(f"{leg.file}-s{seed}", {})
            found.append({"probe": [row for step in sorted(before, key=int) for row in before[step]] + rows})
        return found

    def _rows(
        self, leg: Leg, steps: Sequence[int], seeds: tuple[int, ...], nets: Sequence[Network]
    ) -> list[list[dict[str, Any]]]:
        found = self.targets(seeds, nets, leg.columns["generation"])
        return [[{"step": step, **row} for row in rows] for step, rows in zip(steps, found, strict=True)]

    @cached_property
    def _earlier(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Result file -> step -> rows."""
        path = self.targets.chain.session.folder.working / FILE
        data = read_shared(path, or_none=True)
        try:
            found: dict[str, dict[str, list[dict[str, Any]]]] = json.loads(data or b"{}")
        except ValueError as error:
            raise BadFileError(f"{path} is damaged: {one_line(error)}; --force starts over") from error
        return found
