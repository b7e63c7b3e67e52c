"""Says in one line each what is degenerate in data, masks and results, and what to try. Needs no JAX."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from supermask.data.splits import noun_of
from supermask.engine.callbacks import Callback
from supermask.errors import listed
from supermask.ticket import Ticket
from supermask.types import Dataset, Shapes, Split, Tree
from supermask.weights.layers import layer_rows

ERRORS = 2
"""Standard errors above the share of the largest class up to which an accuracy counts as chance."""

STILL = 1e-3
"""Relative change of the training loss below which it has not moved."""


@dataclass(frozen=True)
class Chance:
    """What guessing gives on a split.

    Attributes:
        examples: number of labels.
        share: share of the largest class, the best accuracy of a network that ignores its inputs.
        bound: accuracies up to here are within ERRORS standard errors of the best guess; 1 or more if there are too few
            examples to tell.
        floor: (name, accuracy) of the best guess, if that is one of the dataset's floors.
    """

    examples: int
    share: float
    bound: float
    floor: tuple[str, float] | None = None

    @classmethod
    def of(cls, labels: np.ndarray, floors: Mapping[str, float] | None = None) -> Chance:
        counts = np.bincount(_known(labels))
        examples = int(counts.sum())
        share = float(counts.max() / examples) if examples else 1.0
        floor = max(floors.items(), key=lambda item: item[1]) if floors else None
        best = max(share, floor[1]) if floor else share
        return cls(examples, share, best + ERRORS * math.sqrt(best * (1 - best) / max(1, examples)), floor)

    @property
    def one(self) -> str:
        """What is predicted."""
        return "token" if self.floor else "class"

    @property
    def noun(self) -> str:
        """What `examples` is the number of."""
        return "answers" if self.floor else "images"

    def may_be_constant(self, accuracy: float) -> bool:
        """Whether a network that always predicts the same class could have this accuracy, where there are others."""
        return self.share < 1 and accuracy <= self.share + 1e-9  # a mean over draws may be rounded up

    def explains(self, accuracy: float) -> bool:
        """Whether the accuracy cannot be told from that of a guess."""
        return accuracy <= self.bound < 1


def tell(callbacks: Iterable[Callback], texts: Iterable[str], seed: int | None = None) -> None:
    """Pass warnings to callbacks as notes."""
    who = "" if seed is None else f"seed {seed}: "
    callbacks = tuple(callbacks)
    for text in texts:
        for callback in callbacks:
            callback.on_note(f"warning: {who}{text}")


def of_data(dataset: Dataset, part: str = "validation") -> list[str]:
    """Warn of training examples, and of those of the split `part`, that nothing can be learned or measured from."""
    found, noun = [], noun_of(dataset)
    for name in dict.fromkeys(("train", part)):
        split: Split = getattr(dataset, name)
        images = f"all {len(split):,} {'training' if name == 'train' else name} {noun}"
        classes = np.unique(_known(split.targets))
        if len(split) > 1 and len(classes) == 1:
            label = dataset.classes[classes[0]]
            are = "are of one class" if noun == "images" else "have one answer"
            found.append(f"{images} {are}, {label}: a network needs at least two to tell apart")
        if len(split) > 1 and _all_equal(split.inputs):
            pixels = " (pixels are 0 to 255)" if noun == "images" else ""
            found.append(f"{images} are equal: look at how they were made{pixels}")
    labels, known = _known(getattr(dataset, part).targets), _known(dataset.train.targets)
    unseen = labels[~np.isin(labels, known)]
    if len(unseen):
        names = listed([dataset.classes[label] for label in np.unique(unseen)])
        of_classes = "images are of classes without a training image"
        if noun != "images":
            of_classes = "answers are tokens that are no answer in a training sequence"
        found.append(
            f"{len(unseen):,} of {len(labels):,} {part} {of_classes}, so they "
            f"cannot be right ({names}): give training {noun} of them, or leave them out"
        )
    return found


def of_mask(mask: Tree) -> list[str]:
    """Warn of layers that keep nothing."""
    empty = [row["name"] for row in layer_rows(mask) if not row["kept"]]
    if not empty:
        return []
    return [
        f"the mask keeps no weight of {listed(empty)}, so nothing passes there: try a higher --density, or a method "
        "or --allocation that leaves each layer some"
    ]


def of_ticket(ticket: Ticket) -> list[str]:
    """Warn of a mask that keeps nothing in a layer, or everything although it was to choose."""
    found = of_mask(ticket.mask)
    if ticket.kind in ("binary", "sampled") and not ticket.transforms and ticket.density == 1 > ticket.config.density:
        which = "given" if ticket.config.weights else "random"
        found.append(f"the mask keeps all weights, so the network is the {which} one: try a lower --density")
    return found


def of_units(counts: Mapping[str, int], shapes: Shapes, density: float) -> list[str]:
    """Warn of layers that are to keep fewer weights than they have output units, before the search.

    Args:
        counts: how many weights each layer is to keep.
    """
    starved = {name: shapes[name][-1] - count for name, count in counts.items() if count < shapes[name][-1]}
    if not starved:
        return []
    worst = max(starved, key=lambda name: starved[name] / shapes[name][-1])
    return [
        f"density {density:g} leaves {listed(list(starved))} fewer weights than output units: {counts[worst]:,} for "
        f"the {shapes[worst][-1]:,} of {worst}, so at least {starved[worst]:,} of them are dead; "
        f"try --allocation global, --allocation erk, --layer-density '{worst}=1.0' or a higher --density"
    ]


def of_density(
    mask: Tree, asked: float, *, off: float = 0.1, advice: str = "another --density or --method"
) -> list[str]:
    """Warn of a mask whose density is off the asked one, by more than a tenth and by more than a weight per layer."""
    rows = layer_rows(mask)
    kept, total = sum(row["kept"] for row in rows), sum(row["total"] for row in rows)
    if abs(kept - asked * total) <= max(len(rows), off * asked * total):
        return []
    return [
        f"density {asked:g} was asked for, and the mask keeps {kept:,} of {total:,} weights, {kept / total:.4g}: try "
        f"{advice}"
    ]


def of_predictions(
    part: str, chance: Chance, accuracy: float, *, always: str | None = None, learned: bool = True
) -> list[str]:
    """Warn of a network that predicts one class only, `always`, or of an accuracy that a guess would have.

    Args:
        part: name of the split.
        learned: whether something was trained; an accuracy at chance is no surprise otherwise.
    """
    if always is not None:
        rate = "another --learning-rate, " if learned else ""
        return [
            f"the network predicts {chance.one} {always} for all {chance.examples:,} {part} {chance.noun}: try {rate}a "
            "higher --density, --scale-by-density or another --init"
        ]
    if not (learned and chance.explains(accuracy)):
        return []
    advice = "try more --epochs, another --learning-rate or a higher --density"
    if chance.floor:
        name, floor = chance.floor
        return [
            f"{part} accuracy {accuracy:.4f} needs no understanding: the floor `{name}` of {chance.examples:,} "
            f"{chance.noun} is {floor:.4f}; {advice}"
        ]
    return [
        f"{part} accuracy {accuracy:.4f} is chance: within {ERRORS} standard errors of {chance.share:.4f}, the share "
        f"of the largest class of {chance.examples:,} images; {advice}"
    ]


def of_loss(best: Mapping[str, float], last: Mapping[str, float]) -> list[str]:
    """Warn of a training loss that never moved, from the metrics of the best and of the last epoch.

    It has not moved if the first epoch is still the best one and the last epoch has its loss. A converged loss is as
    still, but the best epoch is a later one.
    """
    if best["epochs"] != 1 or last["epochs"] < 2 or abs(last["loss"] - best["loss"]) > STILL * abs(best["loss"]):
        return []
    return [
        f"the training loss did not move: {best['loss']:.4f} in epoch 1, {last['loss']:.4f} in epoch "
        f"{last['epochs']}; try a higher --learning-rate, --scale-by-density or another --init"
    ]


def _known(labels: np.ndarray) -> np.ndarray:
    """The labels that count, in one dimension."""
    return labels[labels >= 0]


def _all_equal(images: np.ndarray) -> bool:
    return all((images[i : i + 256] == images[0]).all() for i in range(0, len(images), 256))
