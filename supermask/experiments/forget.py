"""`forget`: trains a network, lets it forget a part of what it learned and trains it again, several times.

Source: Zhou et al. 2022, Fortuitous forgetting in connectionist networks, arXiv 2202.00155. Each generation is a
training of its own, with fresh moments and the whole schedule of the learning rate.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from supermask.config.forget import ForgetConfig
from supermask.engine.callbacks import Callback
from supermask.engine.layer_order import layers_of
from supermask.engine.optim import make_optimizer
from supermask.engine.problem import Problem
from supermask.engine.state import FitState
from supermask.experiments.chain import Chain
from supermask.experiments.leg import Leg
from supermask.experiments.options import Rows, RunOptions
from supermask.experiments.run import completed
from supermask.experiments.scores import accuracies, placed
from supermask.experiments.session import Pause, Session
from supermask.experiments.targets import Network, Probes, Targets, check_labels, networks, with_wrong_labels
from supermask.masks.ranking import keep_fractions, prune
from supermask.types import Tree
from supermask.weights import forgetting
from supermask.weights.actions import Action
from supermask.weights.parameters import masked_shapes
from supermask.weights.trained import TrainedWeights

SPLITS = ("train", "val", "test")


def forget(
    config: ForgetConfig,
    *,
    run: str | Path | RunOptions,
    data_dir: str | Path | None = None,
    callbacks: Iterable[Callback] = (),
) -> Rows:
    """Train each seed of the config in generations, with forgetting before each but the first.

    It is durable as a search with a run folder is, and raises the same errors.

    Args:
        run: the run folder, or RunOptions, which then also hold `data_dir` and `callbacks`.

    Returns:
        one row per trained network: seed, generation (from 1), branch (the operator, or `long`), accuracies after
        relearning and after forgetting, and the file of its weights.
    """
    return completed(Forget, config, RunOptions.of(run, data_dir, callbacks)).rows


class Forget:
    """The experiment in a run folder: writes the weights of each seed after each generation."""

    def run(self, session: Session, problem: Problem) -> Rows:
        """See `Experiment.run`."""
        operator = Operator.of(problem)
        if operator.config.label_noise or operator.config.probe:
            check_labels(problem.dataset)
        if operator.config.label_noise:
            problem = with_wrong_labels(problem, operator.config.label_noise)
        chain = Chain(session, problem)
        found = _Generations(chain, operator)
        for seeds in chain.groups():
            if not found.run(seeds):
                break
        return chain.rows


@dataclass(frozen=True)
class Operator:
    """A way to forget.

    Attributes:
        layers: maskable parameters in the order in which the network applies them -> see `layers_of`; only for what
            depends on it.
        first: of later-layer forgetting, the place of the first layer that is reset.
    """

    problem: Problem
    config: ForgetConfig
    layers: dict[str, tuple[int, ...]]
    first: int = 0

    @classmethod
    def of(cls, problem: Problem) -> Operator:
        """The operator of a problem's config.

        Raises:
            UsageError: the network has no such layer, or no slices that fit.
        """
        config = problem.config
        assert isinstance(config, ForgetConfig)
        layers = layers_of(problem) if config.op in ("llf", "kels") else {}
        found = cls(problem, config, layers)
        if config.op == "llf":
            found = replace(found, first=forgetting.first_reset(list(layers), problem.parameters, config.layer))
        _ = found.slices
        return found

    @cached_property
    def slices(self) -> Tree:
        """What `kels` keeps; {} under another operator."""
        if self.config.op != "kels":
            return {}
        flattened = {name: image for name, image in self.layers.items() if image}
        return forgetting.leading_slices(
            list(self.layers), self.problem.parameters, flattened, self.config.chosen("split")
        )

    def kept(self, seed: int, generation: int, weights: Tree) -> Tree:
        """The mask of what forgetting leaves of trained weights before a generation."""
        config, parameters = self.config, self.problem.parameters
        shapes = masked_shapes(parameters)
        if config.op == "llf":
            return forgetting.earlier_layers(list(self.layers), shapes, self.first)
        if config.op == "kels":
            return self.slices
        if config.op == "wels":
            return forgetting.random_weights(seed, shapes, config.chosen("split"))
        share = config.chosen("keep")
        keep = keep_fractions(parameters, conv=share, dense=share, head=(1 + share) / 2)
        ones = {name: np.ones(shape, bool) for name, shape in shapes.items()}
        return prune({name: np.abs(weights[name]) for name in shapes}, ones, keep, key=f"{seed}/{generation}")

    def __call__(self, seed: int, generation: int, weights: Tree) -> tuple[Tree, Tree]:
        """Return (weights to relearn from, the mask of `kept`)."""
        config, problem = self.config, self.problem
        kept = self.kept(seed, generation, weights)
        if config.op == "imp":
            return Action(pruned="zero-start")(seed, problem.weights(seed), weights, kept)[0], kept
        if config.op == "rewind":
            return forgetting.replaced(weights, kept, problem.weights(seed)), kept
        values = forgetting.fresh(config.redraw, seed, generation, problem.parameters)
        return forgetting.replaced(weights, kept, values), kept


class _Generations:
    """The generations of seeds that lie side by side."""

    def __init__(self, chain: Chain, operator: Operator) -> None:
        self.chain, self.operator, self.config = chain, operator, operator.config

    def run(self, seeds: tuple[int, ...]) -> bool:
        """Run all generations, and the long training; return False if one is stopped."""
        chain, config = self.chain, self.config
        ones, epochs = [chain.ones() for _ in seeds], int(config.epochs or 0)
        begin = [chain.problem.weights(seed) for seed in seeds]
        nets: list[TrainedWeights] | None = None
        for generation in range(1, config.generations + 1):
            leg = Leg(
                file=f"generation-{generation:02d}",
                columns={"generation": generation, "branch": config.op},
                starts=begin,
                masks=ones,
                until=epochs,
                seen=[{"forgotten": 0} for _ in seeds],
            )
            if nets is not None:
                leg = self._after(seeds, generation, nets, leg)
            measure = partial(self._measured, seeds, leg, forgot=generation > 1)
            nets = chain.train(seeds, leg, measure=measure, pauses=self._pauses(chain, seeds, leg))
            if nets is None:
                return False
        if not config.long:
            return True
        columns = {"generation": config.generations, "branch": "long"}
        total = epochs * config.generations
        leg = Leg(f"generation-{config.generations:02d}-long", columns, begin, ones, until=total)
        pauses = self._pauses(self._long, seeds, leg)
        return self._long.train(seeds, leg, measure=partial(self._probed, seeds, leg), pauses=pauses) is not None

    def _after(self, seeds: tuple[int, ...], generation: int, nets: list[TrainedWeights], leg: Leg) -> Leg:
        """The leg with what forgetting makes of the networks of the generation before."""
        pairs = [self.operator(seed, generation, net.weights) for seed, net in zip(seeds, nets, strict=True)]
        starts, masks = (list(column) for column in zip(*pairs, strict=True))
        counts = [sum(int((~kept).sum()) for kept in mask.values()) for mask in masks]
        # Rewinding the whole network, norms and biases included, rewinds their statistics, too.
        states = [] if self.config.op == "imp" else [net.state for net in nets]
        leg = replace(leg, starts=starts, states=states, seen=[{"forgotten": count} for count in counts])
        if self.config.freeze is None:
            return leg
        forgotten = [{name: ~kept for name, kept in mask.items()} for mask in masks]
        return replace(leg, trained=forgotten if self.config.freeze == "kept" else masks, pruned=starts)

    def _measured(
        self, seeds: tuple[int, ...], leg: Leg, found: list[TrainedWeights], forgot: bool
    ) -> list[dict[str, Any]]:
        """Accuracies right after forgetting, and those of what knowledge evolution keeps, alone; and the probes."""
        columns = self._probed(seeds, leg, found)
        if forgot:
            states = leg.states or [self.chain.problem.initial(seed)[1] for seed in seeds]
            scores = self._scored("forgotten", seeds, leg.starts, states, SPLITS)
            columns = [a | b for a, b in zip(scores, columns, strict=True)]
        if self.config.op in ("kels", "wels"):
            kept = [self.operator.kept(seed, 0, net.weights) for seed, net in zip(seeds, found, strict=True)]
            zero = {name: np.float32(0) for name in self.chain.ones()}
            slim = [forgetting.replaced(net.weights, mask, zero) for net, mask in zip(found, kept, strict=True)]
            scores = self._scored("slim", seeds, slim, [net.state for net in found], SPLITS[1:])
            columns = [a | b for a, b in zip(columns, scores, strict=True)]
        return columns

    def _scored(
        self, what: str, seeds: tuple[int, ...], weights: Any, states: Any, splits: Iterable[str]
    ) -> list[dict[str, float]]:
        scores = accuracies(self.chain, len(seeds), placed(self.chain, seeds, list(weights), list(states)), splits)
        return [{f"{what}_{split}_accuracy": value for split, value in row.items()} for row in scores]

    def _probed(self, seeds: tuple[int, ...], leg: Leg, found: list[TrainedWeights]) -> list[dict[str, Any]]:
        if not self.config.probe:
            return [{} for _ in seeds]
        per_epoch = self.chain.problem.pipeline.steps_per_epoch
        steps = [int(net.metrics["epochs"]) * per_epoch for net in found]
        return self._probes.columns(leg, steps, seeds, [Network(net.weights, net.state) for net in found])

    def _pauses(self, chain: Chain, seeds: tuple[int, ...], leg: Leg) -> dict[int, Pause]:
        """The probes during a training."""
        every, end = self.config.probe_every, leg.until * chain.problem.pipeline.steps_per_epoch

        def probed(state: FitState, frozen: Any) -> None:
            self._probes.add(leg, state.step, seeds, networks(chain.trainer, state, frozen))

        return dict.fromkeys(range(every, end, every), probed) if every else {}

    @cached_property
    def _probes(self) -> Probes:
        return Probes(Targets(self.chain, self.config.label_noise))

    @cached_property
    def _long(self) -> Chain:
        problem, config = self.chain.problem, self.config
        alone = config.replace(epochs=int(config.epochs or 0) * config.generations, generations=1, long=False)
        optimizer = make_optimizer(alone, problem.pipeline.steps_per_epoch)
        return self.chain.beside(replace(problem, config=alone, optimizer=optimizer))
