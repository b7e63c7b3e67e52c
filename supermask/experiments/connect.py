"""`connect`: loss and accuracy along the line between two trained networks (linear mode connectivity).

Frankle et al.: Linear Mode Connectivity and the Lottery Ticket Hypothesis. ICML 2020, arXiv 1912.05671.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from supermask.config.words import SPLITS
from supermask.core import weight_training
from supermask.engine import batching
from supermask.engine.batch_statistics import BatchStatistics
from supermask.engine.evaluator import Evaluator
from supermask.engine.problem import Problem
from supermask.errors import BadFileError, UsageError, require
from supermask.experiments.evaluate import problem_of
from supermask.runs.content import differences
from supermask.runtime.numerics import fixed_numerics
from supermask.runtime.places import expand
from supermask.types import Sums, Tree
from supermask.weights.trained import TrainedWeights

STABLE = 0.02
"""A barrier in error below this is counted as none (Frankle et al. 2020)."""
SAME = ("arch", "arch_options", "width", "activation", "image_size", "normalise", "validation", "precision")
"""Fields of the config in which both networks must agree."""


@dataclass(frozen=True)
class Connection:
    """What lies on the line from A to B.

    Attributes:
        points: one row per point: alpha (0 is A, 1 is B), loss, accuracy, error.
        error_barrier, loss_barrier: the highest value on the line, less the mean of both ends.
    """

    split: str
    points: list[dict[str, float]]
    error_barrier: float
    loss_barrier: float
    notes: tuple[str, ...] = ()

    @property
    def stable(self) -> bool:
        """Whether the barrier in error is below 2 points."""
        return self.error_barrier < STABLE


@fixed_numerics()
def connect(
    a: TrainedWeights,
    b: TrainedWeights,
    *,
    points: int = 11,
    split: str = "validation",
    effective: bool = False,
    data_dir: str | Path | None = None,
    dataset: str | None = None,
) -> Connection:
    """Score the networks on the line between two trained ones.

    Effective weights lie on the line: under a shared mask, what it removes stays 0.

    Args:
        points: number of points, both ends included.
        split: validation, test or train.
        effective: take networks under different masks, too.
        data_dir, dataset: see `evaluate`.

    Raises:
        UsageError: an unknown split, or fewer than 3 points.
        BadFileError: the networks differ in arch, options, data or mask; or see `evaluate`.
    """
    require("split", split, SPLITS)
    if points < 3:
        raise UsageError(f"points is {points}; it must be 3 or more: both ends, and one between them")
    notes = _check_same(a, b, effective)
    problem, origin = problem_of(a, dataset, expand(data_dir) if data_dir else None)
    found = barrier(problem, a.effective(), b.effective(), split=split, points=points, state=a.state)
    return Connection(split=split, **found, notes=(*origin.notes, *notes))


def barrier(
    problem: Problem,
    a: Tree,
    b: Tree,
    *,
    split: str = "validation",
    points: int = 11,
    state: Tree | None = None,
) -> dict[str, Any]:
    """Return the fields `points`, `error_barrier` and `loss_barrier` of a `Connection`; see `Line`."""
    return Line(problem, split, points)(a, b, state)


class Line:
    """Scores lines between networks of a problem. All points of all lines go through one compiled program.

    As many points lie side by side as suit the devices. Batch statistics belong to weights, so they are not
    interpolated: at every point, both ends included, they are estimated from the same training batches.
    """

    def __init__(self, problem: Problem, split: str = "validation", points: int = 11) -> None:
        self.problem, self.points = problem, points
        lanes = batching.seeds_side_by_side(problem.config.replace(seeds=points), problem.model, problem.sharding)
        self.sharding = problem.side_by_side(lanes)
        self._evaluator = Evaluator(problem, weight_training, getattr(problem.dataset, split), self.sharding)
        self._statistics = BatchStatistics(problem, weight_training, self.sharding)

    def __call__(self, a: Tree, b: Tree, state: Tree | None = None) -> dict[str, Any]:
        """Return points, error_barrier and loss_barrier.

        Args:
            a, b: effective weights.
            state: what a network has besides; its own initial one by default.
        """
        seed, lanes, stack = self.problem.config.seed, self.sharding.seeds, self.sharding.stack_seeds
        places = [i / (self.points - 1) for i in range(self.points)]
        start = self.problem.initial(seed)[1] if state is None else state
        rows: list[dict[str, float]] = []
        for first in range(0, self.points, lanes):
            here = places[first : first + lanes]
            padded = here + here[-1:] * (lanes - len(here))
            weights, nothing = stack([between(a, b, alpha) for alpha in padded]), stack([{}] * lanes)
            states = self._statistics(weights, stack([start] * lanes), nothing, [seed] * lanes)
            sums = self._evaluator(weights, states, nothing, [seed] * lanes)
            assert sums is not None  # nobody stops it
            rows += [_point(alpha, sums, i) for i, alpha in enumerate(here)]
        return {"points": rows, "error_barrier": _height(rows, "error"), "loss_barrier": _height(rows, "loss")}


def _point(alpha: float, sums: Sums, i: int) -> dict[str, float]:
    count, right = int(sums.count[0, i]), int(sums.correct[0, i])
    loss = float(sums.loss[0, i]) / count
    return {"alpha": alpha, "loss": loss, "accuracy": right / count, "error": (count - right) / count}


def between(a: Tree, b: Tree, alpha: float) -> Tree:
    """(1 - alpha) a + alpha b as float32, exact at both ends and where a equals b."""
    return {
        name: ((1 - alpha) * array.astype(np.float64) + alpha * b[name].astype(np.float64)).astype(np.float32)
        for name, array in a.items()
    }


def _height(rows: list[dict[str, float]], key: str) -> float:
    values = [row[key] for row in rows]
    return max(values) - (values[0] + values[-1]) / 2


def _check_same(a: TrainedWeights, b: TrainedWeights, effective: bool) -> list[str]:
    """Raise a BadFileError unless both networks can lie on one line; return notes."""
    names = [str(found.path or "the weights") for found in (a, b)]
    one, two = a.config.to_dict(), b.config.to_dict()
    wrong = [f"{key} {one[key]!r} and {two[key]!r}" for key in SAME if one[key] != two[key]]
    if a.shapes != b.shapes and not wrong:
        wrong.append("the shapes of their parameters")
    if a.content and b.content:
        wrong += differences(a.content, b.content)
    elif one["dataset"] != two["dataset"]:
        wrong.append(f"dataset {one['dataset']!r} and {two['dataset']!r}")
    if wrong:
        raise BadFileError(f"{names[0]} and {names[1]} differ, so no line joins them: {'; '.join(wrong)}")
    masks = [{name: np.asarray(mask) for name, mask in found.mask.items()} for found in (a, b)]
    same = masks[0].keys() == masks[1].keys()
    if same and all(np.array_equal(mask, masks[1][name]) for name, mask in masks[0].items()):
        return []
    other = sum(
        int(np.count_nonzero(masks[0].get(name, 1) != np.broadcast_to(masks[1].get(name, 1), shape)))
        for name, shape in a.shapes.items()
    )
    text = f"the masks of {names[0]} and {names[1]} differ in {other:,} weights"
    if not effective:
        raise BadFileError(f"{text}; --effective joins their effective weights")
    return [f"note: {text}; the line joins their effective weights"]
