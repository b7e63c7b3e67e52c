"""LotteryConfig: rounds of training and pruning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from supermask.config import Config, option
from supermask.config.checks import words_of
from supermask.errors import UsageError, require

RANKINGS = ("local", "global")
RETRAIN = ("weights", "learning-rate", "fine-tune")
TRANSFERS = ("mask", "sign", "weights")
KINDS = ("conv", "dense", "head")
KEPT = (
    *("rewind", "random-reinit", "signed-reinit", "random-reshuffle", "signed-reshuffle"),
    *("signed-constant", "random-signed-constant"),
)
PRUNED = (
    *("zero", "freeze-init", "freeze-init-zero-mask", "freeze-init-zero-all"),
    *("freeze-init-zero-reshuffle", "freeze-init-zero-reverse", "zero-start"),
)
"""What kept and pruned weights may become; `weights.actions` says what the names mean."""
CONTROLS = (*KEPT, *PRUNED, "redraw", "layer-shuffle", "noise")


@dataclass(frozen=True)
class LotteryConfig(Config):
    """The config of a lottery: a dense training, then rounds of pruning and training.

    Fields that are None take their value from `resolve.TRAINING` or from the dataset.

    Raises:
        UsageError: a number is out of range, or a word is not among the choices.
    """

    rounds: int = option(12, "Rounds of pruning after the dense training.", group="method")
    criterion: str = option("large-final", "What is kept: a name from `supermask list criteria`.", group="method")
    keep: str = option(
        "conv=0.9,dense=0.8,head=0.9",
        "Fraction of the remaining weights that a layer keeps in each round, by its kind; or one number.",
        group="method",
    )
    ranking: str = option(
        "local",
        "Rank the weights of each layer apart, or those of all layers together.",
        choices=RANKINGS,
        group="method",
    )
    one_shot: bool = option(False, "Prune the dense network to the density of each round at once.", group="method")
    kept: str = option(
        "rewind",
        f"What kept weights become before they are trained again: {', '.join(KEPT)}.",
        choices=KEPT,
        metavar="WORD",
        group="method",
    )
    pruned: str = option(
        "zero", f"What pruned weights become: {', '.join(PRUNED)}.", choices=PRUNED, metavar="WORD", group="method"
    )
    rescale: bool = option(False, "Multiply the start of each layer by size / number kept.", group="method")
    rewind_step: int = option(0, "Step of the dense training that a round goes back to.", group="method")
    retrain: str = option(
        "weights",
        "What goes back: weights and learning rate, only the learning rate, or nothing (fine-tune: the last learning "
        "rate, for as long).",
        choices=RETRAIN,
        group="method",
    )
    control: str | None = option(
        None,
        "In each round, also train these: names of what --kept or --pruned takes, redraw (new random "
        "weights), layer-shuffle (a shuffled mask), noise (another order of the data, and the barrier between both).",
        group="method",
    )
    transfer: str | None = option(
        None,
        "In each round, also give another seed the ticket's mask, sign (mask and signs) or weights.",
        group="method",
    )

    experiment: ClassVar[str] = "lottery"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low in (("rounds", 0), ("rewind_step", 0)):
            if getattr(self, name) < low:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be {low} or more")
        for word in words_of(self.control):
            require("control", word, CONTROLS)
        for word in words_of(self.transfer):
            require("transfer", word, TRANSFERS)
        self.keep_by_kind()
        if self.retrain != "weights" and (self.kept, self.pruned, self.rescale) != ("rewind", "zero", False):
            raise UsageError(f"--retrain {self.retrain} keeps trained weights: leave out --kept, --pruned, --rescale")

    def keep_by_kind(self) -> dict[str, float]:
        """The fraction to keep in each round, by kind of layer.

        Raises:
            UsageError: it is not written as described, or out of range.
        """
        found = dict.fromkeys(KINDS, 0.0)
        parts = words_of(self.keep)
        alone = len(parts) == 1 and "=" not in parts[0]
        for part in [f"{kind}={parts[0]}" for kind in KINDS] if alone else parts:
            kind, _, number = part.partition("=")
            require("kind of layer", kind, KINDS)
            try:
                found[kind] = float(number)
            except ValueError:
                found[kind] = math.nan
            if not 0 < found[kind] <= 1:
                raise UsageError(f"--keep {self.keep} should give fractions above 0 and at most 1, such as conv=0.9")
        for kind, value in found.items():
            if not value:
                raise UsageError(f"--keep {self.keep} leaves out {kind}: give one number, or all of {', '.join(KINDS)}")
        return found

    @property
    def branches(self) -> tuple[str, ...]:
        """What is trained in each round: the ticket, its controls, and other seeds that it is given to."""
        return ("ticket", *words_of(self.control), *(f"transfer-{word}" for word in words_of(self.transfer)))

    @property
    def num_results(self) -> int:
        """Number of trained networks."""
        dense = 1 + ("noise" in self.branches) + bool(self.rewind_step and self.transfer)
        return self.seeds * (dense + self.rounds * len(self.branches))

    @property
    def label(self) -> str:
        return "lottery"
