"""One training of a chain: what it begins with, and what tells its results from those of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supermask.engine.pruned import Frozen, frozen_of
from supermask.types import Tree


@dataclass(frozen=True)
class Leg:
    """One training in a chain, of some seeds side by side.

    Attributes:
        file: the beginning of the names of its result files.
        columns: what tells its rows of results from those of other legs, such as a round.
        starts: the weights of each seed before the first step.
        masks: of each seed, which weights are kept; its results are stored with them.
        trained, pruned: of each seed, which weights are trained, and the values of the others. By default, those that
            are kept are trained and the others are 0.
        step: the step, in the order of the examples and the learning rate, to begin at.
        until: the epoch to end at.
        noise: seeds of the order of the examples, augmentation and dropout; the seeds themselves by default.
        seen: more columns, of each seed.
        states: what each seed's network has besides weights, such as batch statistics; by default its own initial ones.
    """

    file: str
    columns: Mapping[str, Any]
    starts: Sequence[Tree]
    masks: Sequence[Tree]
    trained: Sequence[Tree] = ()
    pruned: Sequence[Tree] = ()
    step: int = 0
    until: int = 0
    noise: Sequence[int] | None = None
    seen: Sequence[Mapping[str, Any]] = ()
    states: Sequence[Tree] = ()

    def frozen(self) -> list[Frozen]:
        """What is frozen for each seed, see `engine.pruned`."""
        default = [None] * len(self.masks)
        each = zip(self.masks, self.trained or default, self.pruned or default, strict=True)
        return [frozen_of(kept, trained, values) for kept, trained, values in each]
