"""`evaluate`: measures accuracy, loss and density per layer of a ticket on its dataset."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from supermask.config.advice import fitting
from supermask.config.files import FILES
from supermask.config.network import takes_activation
from supermask.config.words import CONTROLS, SPLITS
from supermask.core import Parametrization, mask_search, weight_training
from supermask.data.splits import noun_of
from supermask.engine.batch_statistics import BatchStatistics
from supermask.engine.constant import constant_class
from supermask.engine.evaluator import SAMPLES, Evaluator
from supermask.engine.problem import AnyConfig, Problem, build, on_this_machine
from supermask.errors import BadFileError, UsageError, require
from supermask.experiments.content import Found, Origin
from supermask.experiments.controls import control as control_of
from supermask.experiments.floors import floors_of
from supermask.experiments.outcome import class_name, of_result
from supermask.experiments.warnings import Chance, of_data, of_predictions
from supermask.resolve import resolve
from supermask.runtime.numerics import fixed_numerics
from supermask.runtime.places import expand
from supermask.tasks._whole import WholeAnswers, has_answers
from supermask.ticket import Ticket
from supermask.types import Shapes, Split, Tree


@dataclass(frozen=True)
class Evaluation:
    """The results of a ticket on one split; accuracies and densities are fractions in [0, 1].

    Attributes:
        examples: number of images, or sequences, in the split; each is counted once.
        accuracy: for a sampled mask, the mean over `samples` draws.
        accuracy_std: standard deviation over the draws (population); 0 for a mask that is not sampled.
        samples: number of draws; 1 for a mask that is not sampled.
        layers: the rows of `Ticket.layers`.
        control: the control that was applied before scoring, or None; see `controls`.
        other_data: what differs from the ticket's data, if it was evaluated on other data; then no validation accuracy
            can be reproduced.
        notes: what a reader of the numbers should know, one line each.
        val_accuracy: accuracy on the validation split, measured now.
        recorded_val_accuracy: the same accuracy as recorded in the ticket.
        warnings: what is degenerate about the mask, the split or the predictions; predictions under a control are not
            judged, for they are meant to be worse.
        noun: what the examples are: images or sequences.
        floor: for sequences, accuracies on this split that need no understanding, by name.
        sequence_accuracy: fraction of the sequences that are right in every token asked for; None if no more than one
            is, or if all are, as in text.
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
    other_data: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)
    noun: str = "images"
    floor: dict[str, float] = field(default_factory=dict)
    sequence_accuracy: float | None = None

    @property
    def reproduced(self) -> bool:
        """Whether the validation accuracy equals the recorded one, to the last image."""
        return self.val_accuracy == self.recorded_val_accuracy


@fixed_numerics()
def evaluate(
    ticket: Found,
    *,
    split: str = "test",
    samples: int = SAMPLES,
    control: str | None = None,
    data_dir: str | Path | None = None,
    dataset: str | None = None,
) -> Evaluation:
    """Evaluate a ticket, or trained weights, on a split of their dataset, or of another one that fits.

    The recorded validation accuracy is computed again first, to show whether this machine gives the same results.

    Args:
        ticket: a ticket, whose weights are drawn again and verified, or trained weights.
        split: test, validation or train.
        samples: number of draws of a sampled mask.
        control: a name in `config.words.CONTROLS`: replace the ticket's mask or weights, and so its batch statistics.
        data_dir: folder of datasets; the user's cache folder by default.
        dataset: where the data lies now, or other data, normalised as the ticket's was; the ticket's by default.

    Raises:
        UsageError: unknown split, control or dataset, or `samples` below 1.
        BadFileError: data is missing, damaged, does not fit, or is not the ticket's and not named by `dataset`; the
            weights differ; or the user's own code has changed, and the validation accuracy with it.
    """
    _check_words(ticket, split, samples, control)
    weights = ticket.weights() if isinstance(ticket, Ticket) else ticket.weights
    problem, origin = problem_of(ticket, dataset, expand(data_dir) if data_dir else None)
    validation, chosen = problem.dataset.validation, getattr(problem.dataset, split)
    assert validation is not None
    draws, scorer = int(ticket.metrics.get("val_samples", SAMPLES)), _Scorer(problem, ticket, weights)
    on_validation = scorer.score(validation, draws)
    val_accuracy = float(on_validation[1].mean())
    origin.check_code(ticket, reproduced=val_accuracy == ticket.metrics["val_accuracy"])
    if control is not None and isinstance(ticket, Ticket):
        ticket = control_of(ticket, control)
        scorer = _Scorer(problem, ticket, ticket.weights()).with_own_statistics()
    same = split == "validation" and control is None and samples == draws
    losses, accuracies = on_validation if same else scorer.score(chosen, samples)
    return Evaluation(
        dataset=problem.config.dataset,
        split=split,
        examples=len(chosen),
        accuracy=float(accuracies.mean()),
        accuracy_std=float(accuracies.std()),
        samples=len(accuracies),
        loss=float(losses.mean()),
        density=ticket.density,
        layers=ticket.layers(),
        val_accuracy=val_accuracy,
        recorded_val_accuracy=ticket.metrics["val_accuracy"],
        control=control,
        other_data=origin.other_data,
        notes=origin.notes,
        warnings=of_result(problem, ticket) if control else scorer.judged(ticket, split, float(accuracies.mean())),
        noun=noun_of(problem.dataset),
        floor=floors_of(problem.dataset, split),
        sequence_accuracy=scorer.whole(chosen, samples) if has_answers(chosen) else None,
    )


def _check_words(ticket: Found, split: str, samples: int, control: str | None) -> None:
    require("split", split, SPLITS)
    if control is not None:
        require("control", control, CONTROLS)
        if not isinstance(ticket, Ticket):
            raise UsageError("controls replace the mask or the frozen weights of a ticket; these are trained weights")
    if samples < 1:
        raise UsageError(f"samples is {samples}; it must be 1 or more")


def problem_of(ticket: Found, dataset: str | None, data_dir: Path | None) -> tuple[Problem, Origin]:
    """Return the problem of a ticket, or of trained weights, on this machine, and where its data comes from."""
    asked = _for_here(ticket.config.replace(dataset=dataset) if dataset else ticket.config)
    config = on_this_machine(resolve(asked))
    origin = Origin.of(ticket, config, data_dir, named=dataset is not None)
    problem = build(config, origin.dataset)
    _check_shapes(problem.model.weights, ticket)
    return problem, origin


@dataclass(frozen=True)
class _Scorer:
    """Scores one ticket, or trained network, with weights that are already verified."""

    problem: Problem
    found: Found
    weights: Tree

    def score(self, split: Split, samples: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (mean loss, accuracy) per draw."""
        problem, (rule, arguments) = self.problem, self._arguments()
        sums = Evaluator(problem, rule, split, problem.sharding)(*arguments, samples)
        assert sums is not None  # nobody stops it
        return (sums.loss / sums.count)[:, 0], (sums.correct / sums.count)[:, 0]

    def whole(self, split: Split, samples: int) -> float:
        """Return the fraction of sequences that are right as a whole, the mean over the draws."""
        whole = replace(self, problem=replace(self.problem, task=WholeAnswers()))
        return float(whole.score(split, samples)[1].mean())

    def with_own_statistics(self) -> _Scorer:
        """Return the scorer with batch statistics estimated for its mask and weights."""
        problem, (rule, arguments) = self.problem, self._arguments()
        state = jax.device_get(BatchStatistics(problem, rule, problem.sharding)(*arguments))
        own = {name: array[0] for name, array in state.items()}
        return replace(self, found=replace(self.found, state=own))

    def judged(self, found: Found, name: str, accuracy: float) -> list[str]:
        """Return the warnings about a result, a split and the accuracy on it."""
        texts = of_result(self.problem, found) + self.doubts(name, accuracy)
        return [fitting(text, found.config) for text in texts]

    def doubts(self, name: str, accuracy: float) -> list[str]:
        """Return the warnings about a split and about the accuracy on it."""
        data, split = self.problem.dataset, getattr(self.problem.dataset, name)
        chance, always = Chance.of(split.targets, floors_of(data, name)), None
        if chance.may_be_constant(accuracy):
            problem, (rule, arguments) = self.problem, self._arguments()
            evaluator = Evaluator(problem, rule, split, problem.sharding)
            [always] = constant_class(evaluator, split.targets, len(data.classes), *arguments)
        learned = self.found.metrics.get("epochs", 0) > 0
        return of_data(data, name) + of_predictions(
            name, chance, accuracy, always=class_name(data, always), learned=learned
        )

    def _arguments(self) -> tuple[Parametrization, tuple[Any, Any, Any, list[int]]]:
        """Return (parametrization, (result, model state, what is frozen, seeds))."""
        found = self.found
        if isinstance(found, Ticket):
            assert self.problem.method is not None
            rule, result, frozen = mask_search(self.problem.method), found.mask, self.weights
        else:
            rule, result, frozen = weight_training, self.weights, found.factors
        result, state, frozen = (self.problem.sharding.stack_seeds([tree]) for tree in (result, found.state, frozen))
        return rule, (result, state, frozen, [found.config.seed])


def _for_here(config: AnyConfig) -> AnyConfig:
    """Make a config fit this machine's devices, and drop the files that it was made of: the result holds all that it
    needs of them, and they may be gone. So it drops an activation that the network never took."""
    no_tf32 = config.precision == "tf32" and jax.default_backend() != "gpu"
    alone = {key: None for name in FILES for key in (name, f"{name}_sha256") if hasattr(config, name)}
    precision = "f32" if no_tf32 else config.precision
    activation = config.activation if takes_activation(config.arch) else None
    return config.replace(devices=None, micro_batch=None, precision=precision, activation=activation, **alone)


def _check_shapes(here: Shapes, ticket: Found) -> None:
    there = ticket.shapes
    if here == there:
        return
    what = ""
    for name in sorted(here.keys() | there.keys()):
        if here.get(name) != there.get(name):
            what = f"{name} is {here.get(name) or 'absent'} here and {there.get(name) or 'absent'} in the ticket"
            break
    raise BadFileError(
        f"{ticket.path or 'the ticket'} does not fit {ticket.config.arch} on {ticket.config.dataset}: {what}"
    )
