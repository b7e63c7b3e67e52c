"""`train`: trains the weights themselves, dense or under a ticket's mask, for each seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from supermask.config import TrainConfig
from supermask.config.files import hash_of, names_alone
from supermask.core import weight_training
from supermask.engine.callbacks import Callback
from supermask.engine.problem import Problem, load_problem, on_this_machine
from supermask.engine.programs import Start
from supermask.engine.trainer import Trainer
from supermask.errors import BadFileError
from supermask.experiments.options import RunOptions
from supermask.experiments.outcome import judged
from supermask.experiments.run import completed
from supermask.experiments.search import versions
from supermask.experiments.seeds import Phases, SeedExperiment, SeedGroup, Unsaved, seed_groups
from supermask.experiments.session import Session
from supermask.resolve import resolve
from supermask.runs.content import differences
from supermask.runtime.numerics import fixed_numerics
from supermask.runtime.places import expand
from supermask.ticket import Ticket
from supermask.types import Tree
from supermask.weights.trained import TrainedWeights


def train(
    config: TrainConfig,
    *,
    run: str | Path | RunOptions | None = None,
    data_dir: str | Path | None = None,
    callbacks: Iterable[Callback] = (),
) -> list[TrainedWeights]:
    """Train the weights of each seed: dense, or from a ticket's weights under its mask if the config names a ticket.

    Arguments, durability and errors are those of `search`.

    Returns:
        one trained network per seed, in order of the seeds; without a run folder, fewer if a callback stopped it.

    Raises:
        BadFileError: also, the ticket is missing or does not fit the network.
    """
    config = resolve(config)
    if run is None:
        unsaved, networks = Unsaved(tuple(callbacks)), []
        with fixed_numerics(unsaved.note):
            problem = load_problem(on_this_machine(config), expand(data_dir) if data_dir else None)
            for group, trained in groups(problem, unsaved):
                judged(group, trained, unsaved.callbacks)
                networks += trained
        return networks
    options = RunOptions.of(run, data_dir, callbacks)
    result = completed(Train, config, options)
    return [TrainedWeights.load(row["weights"]) for row in result.rows]


def groups(problem: Problem, phases: Phases) -> Iterator[tuple[SeedGroup, list[TrainedWeights]]]:
    """Train all seeds. If a callback stops the training, the last weights are the best so far, if any."""
    config = problem.config
    assert isinstance(config, TrainConfig)
    trainer = Trainer(problem, weight_training, problem.side_by_side())
    begin, mask = _beginning(problem, config, phases.callbacks)
    for group in seed_groups(trainer, begin, phases):
        trained = [
            TrainedWeights(
                config=config.replace(seed=seed, seeds=1, **names_alone(config)),
                image_shape=problem.dataset.train.inputs.shape[1:],
                weights=candidate.result,
                mask=mask,
                state=candidate.model_state,
                metrics=candidate.metrics,
                versions=versions(),
                parameters=problem.parameters,
                content=problem.content,
            )
            for seed, candidate in zip(group.state.seeds, group.chosen, strict=False)
        ]
        yield group, trained


def _beginning(
    problem: Problem, config: TrainConfig, callbacks: Iterable[Callback]
) -> tuple[Callable[[int], tuple[Tree, Start]], Tree]:
    """Return (the `begin` function of `seed_groups`, the mask for the result files)."""
    if config.ticket is None:
        return (lambda seed: ({}, (problem.weights(seed), {}))), {}
    ticket = Ticket.load(config.ticket)
    if hash_of(Path(config.ticket)) != config.ticket_sha256:
        raise BadFileError(f"{config.ticket} has been replaced since this call began: call again")
    if ticket.shapes != problem.model.weights:
        raise BadFileError(
            f"{config.ticket} is of {ticket.config.arch} on inputs of {ticket.image_shape}, not of {config.arch} on "
            f"{problem.dataset.train.inputs.shape[1:]}: leave out what differs"
        )
    if other := differences(ticket.content, problem.content):
        for callback in callbacks:
            callback.on_note(f"note: {config.ticket} was found on other data or code: {'; '.join(other)}")
    weights, factors = ticket.for_training()
    kept = all(((factor == 0) | (factor == 1)).all() for factor in factors.values())
    mask = {name: factor != 0 for name, factor in factors.items()} if kept else factors
    return (lambda seed: (factors, (weights, {}))), mask


class Train(SeedExperiment):
    """The training in a run folder: writes the weights of each seed."""

    kind, doing = "weights", "training"

    def groups(self, problem: Problem, session: Session) -> Iterator[tuple[SeedGroup, list[TrainedWeights]]]:
        """See `SeedExperiment`."""
        return groups(problem, session)
