"""Judges the results of a search, a training or an evaluation: the warnings of `warnings`, with what they need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from supermask.config.advice import fitting
from supermask.engine.callbacks import Callback
from supermask.engine.constant import constant_class
from supermask.engine.problem import Problem
from supermask.experiments import warnings
from supermask.experiments.floors import floors_of
from supermask.experiments.warnings import Chance
from supermask.methods._topk import Selecting
from supermask.ticket import Ticket
from supermask.types import Dataset
from supermask.weights.parameters import masked_shapes
from supermask.weights.trained import TrainedWeights

if TYPE_CHECKING:
    from supermask.experiments.seeds import SeedGroup


def judged(
    group: SeedGroup, results: Sequence[Ticket | TrainedWeights], callbacks: Iterable[Callback]
) -> list[list[str]]:
    """Tell callbacks what is degenerate about each result of a group.

    Returns:
        the warnings about each result, those from before its first step included.
    """
    found = _of_group(group, results)
    for result, texts in zip(results, found, strict=True):
        warnings.tell(callbacks, texts, result.config.seed)
    return [early + texts for early, texts in zip(group.early, found, strict=False)]


def _of_group(group: SeedGroup, results: Sequence[Ticket | TrainedWeights]) -> list[list[str]]:
    """Predictions are judged only if the training was not stopped, and never for the price of another compilation."""
    problem, state, chosen = group.trainer.problem, group.state, group.chosen
    split = problem.dataset.validation
    assert split is not None
    chance = Chance.of(split.targets, floors_of(problem.dataset, "validation"))
    scores = [found.metrics["val_accuracy"] for found in results]
    always: list[int | None] = [None] * len(chosen)
    if not state.interrupted and any(map(chance.may_be_constant, scores)):
        stack = group.trainer.sharding.stack_seeds
        trees = stack([c.result for c in chosen]), stack([c.model_state for c in chosen]), group.frozen
        classes = len(problem.dataset.classes)
        always = constant_class(group.trainer.steps.validation, split.targets, classes, *trees, state.padded_seeds)
    found = []
    for i, (result, accuracy) in enumerate(zip(results, scores, strict=True)):
        texts = of_result(problem, result)
        if not state.interrupted:
            name, learned = class_name(problem.dataset, always[i]), result.metrics["epochs"] > 0
            texts += warnings.of_predictions("validation", chance, accuracy, always=name, learned=learned)
        texts += warnings.of_loss(state.best[i].metrics, state.last[i].metrics)
        found.append([fitting(text, problem.config) for text in texts])
    return found


def before_search(problem: Problem) -> list[str]:
    """Return the warnings about what a search is asked for."""
    method, shapes = problem.method, masked_shapes(problem.parameters)
    if not isinstance(method, Selecting) or method.pattern:
        return []
    texts = warnings.of_units(method.counts(shapes)[0], shapes, method.density)
    return [fitting(text, problem.config) for text in texts]


def of_result(problem: Problem, found: Ticket | TrainedWeights) -> list[str]:
    """Return the warnings about a mask."""
    if not isinstance(found, Ticket):
        return warnings.of_mask(found.mask)
    texts, method = warnings.of_ticket(found), problem.method
    # A pattern leaves layers of a density of their own aside, so the density of the whole is not what was asked for.
    if method is not None and method.keeps_density and not getattr(method, "layer_density", ""):
        texts += warnings.of_density(found.mask, method.density)
    if getattr(method, "is_controlled", False):
        advice = "more --epochs, or --select last"
        texts += warnings.of_density(found.mask, found.config.density, off=0.02, advice=advice)
    return texts


def class_name(dataset: Dataset, label: int | None) -> str | None:
    return None if label is None else dataset.classes[label]
