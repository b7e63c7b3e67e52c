"""Successive halving: all candidates train for a few epochs, the best third for three times as many, and so on.

Jamieson and Talwalkar: Non-stochastic Best Arm Identification and Hyperparameter Optimization. AISTATS 2016,
arXiv 1502.07943. Every training begins anew, for schedules of the learning rate depend on the number of epochs.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from supermask.config.sweep import Cell, Sweep
from supermask.errors import SupermaskError, UsageError
from supermask.runs.sweep import SweepFolder


@dataclass(frozen=True)
class Halving:
    """How many epochs the candidates train for.

    Attributes:
        epochs: of the last round.
        factor: each round keeps one candidate of so many, and trains for so many times as long as the one before.
        first: the fewest epochs that tell candidates apart.
    """

    epochs: int
    factor: int = 3
    first: int = 1

    def __post_init__(self) -> None:
        if self.first > self.epochs:
            raise UsageError(f"the first round has {self.first} epochs, more than the last one, {self.epochs}")

    def rounds(self, candidates: int) -> list[tuple[int, int]]:
        """(candidates, epochs) of each round; there are as many as leave one candidate, or as the epochs allow."""
        found = [self.epochs]
        while self.factor ** len(found) < candidates * self.factor and found[0] // self.factor >= self.first:
            found.insert(0, found[0] // self.factor)
        return [(-(-candidates // self.factor**i), epochs) for i, epochs in enumerate(found)]


@dataclass(frozen=True)
class Candidate:
    """A combination of values, and a cell for each of its seeds.

    Attributes:
        values: of all axes but the seed.
    """

    values: Mapping[str, str]
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Ranked:
    """A candidate after a round.

    Attributes:
        run: the run folder of its first seed.
        accuracy: mean validation accuracy over its seeds.
    """

    candidate: Candidate
    run: Path
    accuracy: float


Called = Callable[[Sweep, SweepFolder, Sequence[Cell]], Mapping[str, Mapping[str, str]]]
"""Calls some cells of a sweep to their end; returns the failures by cell."""


def count_of(candidates: int) -> str:
    """The number of candidates in words."""
    return f"{candidates} candidate{'s' if candidates > 1 else ''}"


def candidates_of(sweep: Sweep, trials: int | None = None) -> list[Candidate]:
    """All combinations of the values of a sweep, or so many of them, drawn at random, the same ones each time."""
    found: dict[tuple[tuple[str, str], ...], list[Cell]] = {}
    for cell in sweep.cells():
        values = tuple((name, value) for name, value in cell.values.items() if name != "seed")
        found.setdefault(values, []).append(cell)
    every = [Candidate(dict(values), cells) for values, cells in found.items()]
    if trials is None or trials >= len(every):
        return every
    return [every[i] for i in sorted(random.Random(0).sample(range(len(every)), trials))]


def tune(
    sweep: Sweep,
    path: Path,
    candidates: Sequence[Candidate],
    halving: Halving,
    call: Called,
    say: Callable[[str], None],
) -> Iterator[tuple[int, list[Ranked]]]:
    """Yield the epochs of each round with its candidates, the best first. What is finished is not trained again.

    Of each round, candidates with a failed cell are left out. Ties go to the one that comes first.

    Raises:
        SupermaskError: all candidates failed.
    """
    left = list(candidates)
    for number, (count, epochs) in enumerate(rounds := halving.rounds(len(candidates)), 1):
        left = left[:count]
        longer = replace(sweep, words=(*sweep.words, f"--epochs={epochs}"))
        folder = SweepFolder(path / f"epochs-{epochs}")
        folder.begin(longer)
        say(f"round {number}/{len(rounds)}: {count_of(len(left))}, {epochs} epochs")
        failures = call(longer, folder, [cell for candidate in left for cell in candidate.cells])
        ranked = []
        for candidate in left:
            if lost := [cell.name for cell in candidate.cells if cell.name in failures]:
                say(f"left out: {lost[0]}: {failures[lost[0]]['message']}")
            else:
                ranked.append(_ranked(candidate, folder))
        if not ranked:
            raise SupermaskError("all candidates failed; the same command tries them again")
        ranked.sort(key=lambda one: -one.accuracy)
        left = [one.candidate for one in ranked]
        yield epochs, ranked


def _ranked(candidate: Candidate, folder: SweepFolder) -> Ranked:
    rows = [row for cell in candidate.cells for row in folder.results(cell) or ()]
    return Ranked(candidate, folder.run(candidate.cells[0]), statistics.fmean(row["val_accuracy"] for row in rows))
