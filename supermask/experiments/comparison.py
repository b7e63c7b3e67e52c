"""What a comparison of mask criteria scores, and what it found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from supermask import registry
from supermask.criteria._criterion import full_name
from supermask.errors import UsageError, require

VALUES = ("initial", "signed-constant", "final")
KEEP = {"conv": 0.9, "dense": 0.8, "head": 0.9}


@dataclass(frozen=True)
class CriteriaSweep:
    """What `compare_criteria` scores.

    Attributes:
        criteria: names of criteria; all if there are none.
        keep: fraction that a round keeps, of convolutions, dense layers and the head; after round k, each layer keeps
            this to the power of k, in one shot.
        rounds: the last round; round 0 keeps everything.
        densities: densities of each layer, in place of rounds.
        values: what the mask is applied to: `initial` weights; `signed-constant`, the sign of each times the standard
            deviation of its layer; `final`, the trained ones. What is not masked, such as a bias, has its initial value
            beside the first two.
        diagnostics: also compare the step of masking with the step of training, see `diagnostics`.

    Raises:
        UsageError: a name is unknown or a number is out of range.
    """

    criteria: Sequence[str] = ()
    keep: Mapping[str, float] = field(default_factory=lambda: dict(KEEP))
    rounds: int = 24
    densities: Sequence[float] = ()
    values: Sequence[str] = ("initial", "signed-constant")
    diagnostics: bool = False

    def __post_init__(self) -> None:
        chosen = dict.fromkeys(map(full_name, self.criteria or registry.names("criteria")))
        for name in chosen:
            registry.check_name("criteria", name)
        for name in self.values:
            require("values", name, VALUES)
        for kind in self.keep:
            require("kind of layer", kind, KEEP)
        for what, number in [*self.keep.items(), *(("a density", number) for number in self.densities)]:
            if not 0 < number <= 1:
                raise UsageError(f"{what} is to keep {number:g}; it must be above 0 and at most 1")
        if self.rounds < 0:
            raise UsageError(f"rounds is {self.rounds}; it must be 0 or more")
        object.__setattr__(self, "criteria", tuple(chosen))
        object.__setattr__(self, "values", tuple(dict.fromkeys(self.values)))
        object.__setattr__(self, "keep", {**KEEP, **self.keep})


@dataclass(frozen=True)
class Comparison:
    """What `compare_criteria` found.

    Attributes:
        rows: one per criterion, values, density and seed: criterion, values, round (None without rounds), density (of
            all masked weights), seed, val_accuracy, val_loss, test_accuracy, test_loss.
        chance: accuracy on the test split of the best guess.
        masks: with diagnostics, a row per criterion and seed, at the density that `best` chose for the
            first of `values`.
        layers: with diagnostics, a row per seed and layer, see `diagnostics.of_layers`.
        guess: what that is: always naming the largest class, or a floor of sequences.
    """

    rows: list[dict[str, Any]]
    chance: float
    masks: list[dict[str, Any]] = field(default_factory=list)
    layers: list[dict[str, Any]] = field(default_factory=list)
    guess: str = "the largest class of the test images"

    def best(self) -> list[dict[str, Any]]:
        """One row per criterion and values, at the density of the highest mean validation accuracy over the seeds.

        Each has means over the seeds, test_accuracy_std (population), and the place of the density among those of the
        criterion. The highest validation accuracy comes first; test accuracy chooses nothing.
        """
        groups: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
        found: dict[tuple[str, str], dict[str, Any]] = {}
        seen: Counter[tuple[str, str, int]] = Counter()
        for row in self.rows:
            place = seen[of := (row["criterion"], row["values"], row["seed"])]
            seen[of] += 1
            groups.setdefault((*of[:2], place), []).append(row)
        for (criterion, values, place), rows in groups.items():
            means = {key: _mean(rows, key) for key in ("density", "val_accuracy", "test_accuracy")}
            if means["val_accuracy"] > found.get((criterion, values), {"val_accuracy": -1})["val_accuracy"]:
                deviation = float(np.std([row["test_accuracy"] for row in rows]))
                found[criterion, values] = {
                    "criterion": criterion,
                    "values": values,
                    "round": rows[0]["round"],
                    "seeds": len(rows),
                    **means,
                    "test_accuracy_std": deviation,
                    "place": place,
                }
        return sorted(found.values(), key=lambda row: -row["val_accuracy"])


def _mean(rows: list[dict[str, Any]], key: str) -> float:
    return float(np.mean([row[key] for row in rows]))
