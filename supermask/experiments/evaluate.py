"""`evaluate`: a ticket and its dataset -> accuracy, loss, density per layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from supermask.config import CONTROLS, SPLITS, SearchConfig
from supermask.engine.evaluator import SAMPLES, Scorer
from supermask.engine.problem import Parts, build
from supermask.errors import BadFileError, UsageError, require
from supermask.experiments.controls import control as control_of
from supermask.ticket import Ticket
from supermask.types import Split, Tree


@dataclass(frozen=True)
class Evaluation:
    """What a ticket is worth on one split; accuracies and densities are fractions in [0, 1].

    Attributes:
        examples: images in the split, every one counted once.
        accuracy: for a sampled mask the mean over `samples` draws.
        accuracy_std: spread over the draws (population standard deviation); 0 for a mask that is not sampled.
        samples: draws; 1 for a mask that is not sampled.
        layers: the rows of `Ticket.layers`.
        control: what was exchanged before scoring, or None; see `controls`.
        val_accuracy: on the validation split, as it is here.
        recorded_val_accuracy: the same as the ticket has it.
    """

    dataset: str
    split: str
    examples: int
    accuracy: float
    accuracy_std: float
    samples: int
    loss: float
    density: float
    layers: list[dict[str, Any]]
    val_accuracy: float
    recorded_val_accuracy: float
    control: str | None = None

    @property
    def reproduced(self) -> bool:
        """Whether the ticket's own validation accuracy was found again, to the last image."""
        return self.val_accuracy == self.recorded_val_accuracy


def evaluate(
    ticket: Ticket,
    *,
    split: str = "test",
    samples: int = SAMPLES,
    control: str | None = None,
    data_dir: str | Path | None = None,
) -> Evaluation:
    """Evaluate a ticket on a split of the dataset that it was searched on.

    The validation accuracy that the search recorded is computed again first, so that a ticket which does not
    mean here what it meant there is noticed.

    Args:
        ticket: whose weights are drawn again and verified.
        split: test, validation or train.
        samples: how often a sampled mask is drawn.
        control: a name in `config.CONTROLS`: score the ticket with its mask or weights exchanged.
        data_dir: folder of datasets; the user's by default.

    Raises:
        UsageError: unknown split or control, or `samples` below 1.
        BadFileError: the dataset is missing or damaged, or is not the one of the ticket; the weights differ.
    """
    require("split", split, SPLITS)
    if control is not None:
        require("control", control, CONTROLS)
    if samples < 1:
        raise UsageError(f"samples is {samples}; it must be 1 or more")
    weights = ticket.weights()
    parts = build(_for_here(ticket.config), Path(data_dir) if data_dir else None)
    if parts.model.weights != ticket.shapes:
        name = _first_difference(parts, ticket)
        raise BadFileError(
            f"{ticket.path or 'the ticket'} does not fit {ticket.config.arch} on {ticket.config.dataset}: {name}"
        )
    validation = parts.dataset.validation
    assert validation is not None
    recorded = ticket.metrics["val_accuracy"]
    draws = int(ticket.metrics.get("val_samples", SAMPLES))
    on_validation = _score(parts, validation, weights, ticket, draws)
    chosen: Split = getattr(parts.dataset, split)
    scored = control_of(ticket, control) if control else ticket
    frozen = scored.weights() if control else weights
    same = split == "validation" and control is None and samples == draws
    losses, accuracies = on_validation if same else _score(parts, chosen, frozen, scored, samples)
    return Evaluation(
        dataset=ticket.config.dataset,
        split=split,
        examples=len(chosen),
        accuracy=float(accuracies.mean()),
        accuracy_std=float(accuracies.std()),
        samples=len(accuracies),
        loss=float(losses.mean()),
        density=scored.density,
        layers=scored.layers(),
        val_accuracy=float(on_validation[1].mean()),
        recorded_val_accuracy=recorded,
        control=control,
    )


def _score(parts: Parts, split: Split, weights: Tree, ticket: Ticket, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """(loss, accuracy) per draw."""
    layout = parts.layout
    weights, mask, stats = (layout.stack([tree]) for tree in (weights, ticket.mask, ticket.stats))
    found = Scorer(parts, split, layout)(weights, mask, stats, [ticket.config.seed], samples)
    assert found is not None  # nobody stops it
    losses, accuracies = found
    return losses[:, 0], accuracies[:, 0]


def _for_here(config: SearchConfig) -> SearchConfig:
    """A ticket is evaluated with the devices that there are, whatever it was searched on."""
    no_tf32 = config.precision == "tf32" and jax.default_backend() != "gpu"
    return config.replace(devices=None, micro_batch=None, precision="f32" if no_tf32 else config.precision)


def _first_difference(parts: Parts, ticket: Ticket) -> str:
    for name in sorted(parts.model.weights.keys() | ticket.shapes.keys()):
        here, there = parts.model.weights.get(name), ticket.shapes.get(name)
        if here != there:
            return f"{name} is {here or 'absent'} here and {there or 'absent'} in the ticket"
    return "the parameters are in another order"
