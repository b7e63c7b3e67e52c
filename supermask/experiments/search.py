"""`search`: finds a mask over frozen random weights, for each seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from supermask._version import __version__
from supermask.config import SearchConfig
from supermask.config.files import names_alone
from supermask.core import mask_search
from supermask.engine.callbacks import Callback
from supermask.engine.evaluator import SAMPLES, is_sampled
from supermask.engine.problem import Problem, load_problem, on_this_machine
from supermask.engine.programs import Start
from supermask.engine.saliency import first_scores
from supermask.engine.state import Candidate
from supermask.engine.trainer import Trainer
from supermask.experiments.options import RunOptions
from supermask.experiments.outcome import judged
from supermask.experiments.run import completed
from supermask.experiments.seeds import Phases, SeedExperiment, SeedGroup, Unsaved, seed_groups
from supermask.experiments.session import Session
from supermask.resolve import resolve
from supermask.runtime.numerics import fixed_numerics
from supermask.runtime.places import expand
from supermask.ticket import Ticket
from supermask.types import Method, Tree
from supermask.weights.shapes import fingerprint


def search(
    config: SearchConfig,
    *,
    run: str | Path | RunOptions | None = None,
    data_dir: str | Path | None = None,
    callbacks: Iterable[Callback] = (),
) -> list[Ticket]:
    """Find a mask for each seed of the config.

    With a run folder the search is durable, like the command: a finished search is read from the folder, a stopped one
    resumes at its newest checkpoint, only one process can work in the folder at a time, and signals stop the search.

    Args:
        config: the search.
        run: the run folder, or RunOptions, which then also hold `data_dir` and `callbacks`; None saves nothing.
        data_dir: folder of datasets; the user's cache folder by default.
        callbacks: told how the search progresses, and asked whether to stop.

    Returns:
        one ticket per seed, in order of the seeds; without a run folder, fewer if a callback stopped the search.

    Raises:
        UsageError: a name or a number in the config is wrong.
        BadFileError: the dataset, or something in the run folder, is missing or damaged.
        RunFolderError: the run folder is in use or belongs to another config.
        DivergedError: the loss is not finite.
        StoppedError, InterruptionError: a signal or a callback stopped a durable search; its checkpoint is saved.
    """
    config = resolve(config)
    if run is None:
        unsaved, tickets = Unsaved(tuple(callbacks)), []
        with fixed_numerics(unsaved.note):
            problem = load_problem(on_this_machine(config), expand(data_dir) if data_dir else None)
            for found in groups(problem, unsaved):
                judged(found.group, found.tickets, unsaved.callbacks)
                tickets += found.tickets
        return tickets
    options = RunOptions.of(run, data_dir, callbacks)
    result = completed(Search, config, options)
    loaded = [Ticket.load(row["ticket"]) for row in result.rows]
    return [ticket.embed_weights() for ticket in loaded] if options.embed_weights else loaded


@dataclass(frozen=True)
class FoundGroup:
    """Seeds side by side and their tickets; [] if the search was stopped before the first epoch ended."""

    group: SeedGroup
    tickets: list[Ticket]


def groups(problem: Problem, phases: Phases) -> Iterator[FoundGroup]:
    """Search for all seeds. If a callback stops the search, the last tickets hold the best masks so far, if any."""
    assert problem.searcher is not None
    for text in problem.given.notes if problem.given else ():
        for callback in phases.callbacks:
            callback.on_note(text)
    trainer = Trainer(problem, mask_search(problem.searcher, problem.trained), problem.side_by_side())
    first = first_scores(problem)

    def begin(seed: int) -> tuple[Tree, Start]:
        weights = problem.weights(seed)
        scores, state = first(seed, weights)
        return weights, (scores | {name: weights[name] for name in problem.trained}, state)

    for group in seed_groups(trainer, begin, phases):
        metrics = _several_draws(group, phases)
        pairs = zip(group.state.seeds, group.chosen, group.frozen_trees, strict=False)
        rows = metrics or [_single_draw(candidate) for candidate in group.chosen]
        tickets = [
            _ticket(problem, seed, candidate, row, weights)
            for (seed, candidate, weights), row in zip(pairs, rows, strict=False)
        ]
        yield FoundGroup(group, tickets)


def _several_draws(group: SeedGroup, phases: Phases) -> list[dict[str, float]] | None:
    """Return the metrics of each seed, for sampled masks over several draws; None if a callback stops the search."""
    state = group.state
    if state.interrupted:
        return None
    chosen = group.chosen
    metrics = [candidate.metrics for candidate in chosen]
    if not is_sampled(chosen[0].result):
        return metrics
    sums = group.trainer.score_again(state, chosen, group.frozen, SAMPLES, phases.callbacks)
    if sums is None:
        return None
    accuracies = sums.correct / sums.count
    return [row | {"val_accuracy": float(column.mean())} for row, column in zip(metrics, accuracies.T, strict=True)]


def _single_draw(candidate: Candidate) -> dict[str, float]:
    return candidate.metrics | ({"val_samples": 1} if is_sampled(candidate.result) else {})


def _ticket(problem: Problem, seed: int, candidate: Candidate, metrics: dict[str, float], weights: Tree) -> Ticket:
    values = {name: candidate.result[name] for name in problem.trained}
    config, method = problem.config, problem.method
    assert isinstance(config, SearchConfig)
    assert method is not None
    return Ticket(
        config=config.replace(seed=seed, seeds=1, **names_alone(config)),
        shapes=problem.model.weights,
        parameters=problem.parameters,
        own=problem.initial(seed)[0] | values,
        image_shape=problem.dataset.train.inputs.shape[1:],
        mask={name: array for name, array in candidate.result.items() if name not in values},
        state=candidate.model_state,
        fingerprint=fingerprint(weights | values),
        metrics=metrics,
        transforms=type(method).effective is not Method.effective,
        versions=versions(),
        content=problem.content,
        embedded=weights | values if problem.given else None,  # no seed tells them
    )


def versions() -> dict[str, str]:
    """The versions of the libraries that results depend on."""
    return {"supermask": __version__, "jax": jax.__version__, "numpy": np.__version__}


class Search(SeedExperiment):
    """The search in a run folder: writes the ticket of each seed."""

    kind, doing = "ticket", "searching"

    def groups(self, problem: Problem, session: Session) -> Iterator[tuple[SeedGroup, list[Ticket]]]:
        """See `SeedExperiment`."""
        for found in groups(problem, session):
            embed = session.options.embed_weights
            yield found.group, [ticket.embed_weights() for ticket in found.tickets] if embed else found.tickets

    def row(self, found: Ticket) -> dict[str, Any]:
        """See `SeedExperiment`."""
        return {"bits_per_parameter": found.bits_per_parameter}
