"""`lottery`: trains a network, prunes it, sets what is kept back and trains it again, round after round.

Sources: Frankle & Carbin 2019, arXiv 1803.03635; Zhou et al. 2019, arXiv 1905.01067; Renda et al. 2020, arXiv
2003.02389. A lottery ticket is what a round keeps, with the weights that it is trained from.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from supermask.config.lottery import PRUNED, LotteryConfig
from supermask.criteria._criterion import make
from supermask.engine.callbacks import Callback
from supermask.engine.problem import Problem
from supermask.errors import UsageError
from supermask.experiments.chain import Chain
from supermask.experiments.leg import Leg
from supermask.experiments.options import Rows, RunOptions
from supermask.experiments.run import completed
from supermask.experiments.session import Session
from supermask.masks.ranking import keep_fractions, prune
from supermask.types import Tree
from supermask.weights.actions import Action, shuffled
from supermask.weights.trained import TrainedWeights

OTHER = 2**31
"""Distance of the seed that a ticket is given to, and of the order of the data of its noisy copy."""


def lottery(
    config: LotteryConfig,
    *,
    run: str | Path | RunOptions,
    data_dir: str | Path | None = None,
    callbacks: Iterable[Callback] = (),
) -> Rows:
    """Train and prune each seed of the config in rounds.

    It is durable as a search with a run folder is, and raises the same errors.

    Args:
        run: the run folder, or RunOptions, which then also hold `data_dir` and `callbacks`.

    Returns:
        one row per trained network: seed, round (0 is dense), branch (`ticket` or a control), density, number of
        weights kept, accuracies, and the file of its weights.
    """
    return completed(Lottery, config, RunOptions.of(run, data_dir, callbacks)).rows


class Lottery:
    """The experiment in a run folder: writes the weights of each seed after each round."""

    def run(self, session: Session, problem: Problem) -> Rows:
        """See `Experiment.run`."""
        config = problem.config
        assert isinstance(config, LotteryConfig)
        if config.rewind_step >= problem.total_steps:
            raise UsageError(
                f"--rewind-step is {config.rewind_step}, but the training has {problem.total_steps} steps: take fewer"
            )
        keep = keep_fractions(problem.parameters, **config.keep_by_kind())
        chain = Chain(session, problem)
        for seeds in chain.groups():
            if not _Seeds(chain, config, seeds, keep).run():
                break
        return chain.rows


class _Seeds:
    """The rounds of some seeds side by side."""

    def __init__(self, chain: Chain, config: LotteryConfig, seeds: tuple[int, ...], keep: dict[str, float]) -> None:
        self.chain, self.config, self.seeds, self.keep = chain, config, seeds, keep
        self.others = tuple((seed + OTHER) % 2**32 for seed in seeds)
        self.ones = [chain.ones() for _ in seeds]
        self.epochs = int(config.epochs or 0)
        self._kept = {config.rewind_step: chain.keep} if config.rewind_step else {}

    def run(self) -> bool:
        """Run all rounds; return False if one is stopped."""
        chain, config, epochs = self.chain, self.config, self.epochs
        begin = [chain.problem.weights(seed) for seed in self.seeds]
        dense = Leg("round-00", {"round": 0, "branch": "ticket"}, begin, self.ones, until=epochs)
        nets = chain.train(self.seeds, dense, pauses=self._kept)
        if nets is None or not self._start_others():
            return False
        self.initial = [chain.start(seed) for seed in self.seeds]
        if not self._controls(0, nets, nets, self.ones):
            return False
        masks, starts, first = self.ones, self.initial, nets
        for number in range(1, config.rounds + 1):
            masks = self._pruned(number, starts, first if config.one_shot else nets, masks)
            leg = self._ticket(number, first if config.one_shot else nets, masks)
            found = chain.train(self.seeds, leg)
            if found is None or not self._controls(number, nets, found, masks):
                return False
            nets, starts = found, list(leg.starts)
        return True

    def _start_others(self) -> bool:
        """Train the seeds that tickets are given to up to the step that rounds go back to."""
        chain, step = self.chain, self.config.rewind_step
        if not step or not self.config.transfer:
            return True
        begin = [chain.problem.weights(seed) for seed in self.others]
        until = max(1, step // chain.problem.pipeline.steps_per_epoch)
        leg = Leg("round-00-others", {"round": 0, "branch": "others"}, begin, self.ones, until=until)
        return chain.train(self.others, leg, pauses=self._kept) is not None

    def _pruned(self, number: int, starts: list[Tree], nets: list[TrainedWeights], masks: list[Tree]) -> list[Tree]:
        """The masks of a round: one round after those of the round before, or after as many from the dense network."""
        config, shot = self.config, self.config.one_shot
        criterion = make(config.criterion)
        keep = {name: fraction ** (number if shot else 1) for name, fraction in self.keep.items()}
        found = []
        for i, seed in enumerate(self.seeds):
            alive, start = (self.ones[i], self.initial[i]) if shot else (masks[i], starts[i])
            slopes = self.chain.saliency.gradient(seed, start) if criterion.needs_gradient else {}
            scores = {
                name: criterion.score(start[name], nets[i].weights[name], kept, slopes.get(name))
                for name, kept in alive.items()
            }
            if criterion.fixed:
                found.append({name: kept & (scores[name] > 0) for name, kept in alive.items()})
            else:
                found.append(prune(scores, alive, keep, config.ranking, f"{seed}/round {number}"))
        return found

    def _ticket(self, number: int, nets: list[TrainedWeights], masks: list[Tree]) -> Leg:
        config = self.config
        columns = {"round": number, "branch": "ticket"}
        if config.retrain == "weights":
            action = Action(config.kept, config.pruned, config.rescale, f"round {number}")
            return self._again(f"round-{number:02d}", columns, action, nets, masks)
        starts = [_cut(net.weights, mask) for net, mask in zip(nets, masks, strict=True)]
        total, per_epoch = self.chain.problem.total_steps, self.chain.problem.pipeline.steps_per_epoch
        step, until = config.rewind_step, self.epochs
        if config.retrain == "fine-tune":  # for as long as the others, at the last learning rate
            step, until = total, 2 * self.epochs - config.rewind_step // per_epoch
        return Leg(f"round-{number:02d}", columns, starts, masks, step=step, until=until)

    def _again(
        self, file: str, columns: dict[str, object], action: Action, nets: list[TrainedWeights], masks: list[Tree]
    ) -> Leg:
        """A leg from the initial weights, as an action changes them."""
        changed = [
            action(seed, initial, net.weights, mask)
            for seed, initial, net, mask in zip(self.seeds, self.initial, nets, masks, strict=True)
        ]
        starts, trained, pruned = (list(column) for column in zip(*changed, strict=True))
        return Leg(file, columns, starts, masks, trained, pruned, step=self.config.rewind_step, until=self.epochs)

    def _controls(
        self, number: int, before: list[TrainedWeights], found: list[TrainedWeights], masks: list[Tree]
    ) -> bool:
        """Train what the config asks for beside a ticket; return False if one is stopped.

        `before` are the networks that the masks were taken from, `found` those of the ticket.
        """
        for branch in self.config.branches[1:]:
            if number or branch == "noise":
                leg = self._control(number, branch, before, masks)
                measure = partial(self._barriers, found) if branch == "noise" else None
                if self.chain.train(self.seeds, leg, measure=measure) is None:
                    return False
        return True

    def _barriers(self, found: list[TrainedWeights], noisy: list[TrainedWeights]) -> list[dict[str, float]]:
        """Height of the error and of the loss between each network and its copy with other noise."""
        lines = [self.chain.line(a.effective(), b.effective(), a.state) for a, b in zip(found, noisy, strict=True)]
        return [{key: line[key] for key in ("error_barrier", "loss_barrier")} for line in lines]

    def _control(self, number: int, branch: str, before: list[TrainedWeights], masks: list[Tree]) -> Leg:
        file, columns = f"round-{number:02d}-{branch}", {"round": number, "branch": branch}
        plain, tag, step = Action(), f"round {number} {branch}", self.config.rewind_step
        if branch in ("noise", "transfer-weights"):
            own = self._ticket(number, before, masks) if number else self._again(file, columns, plain, before, masks)
            return Leg(file, columns, own.starts, masks, own.trained, own.pruned, own.step, own.until, self.others)
        if branch == "layer-shuffle":
            masks = [shuffled(seed, tag, mask) for seed, mask in zip(self.seeds, masks, strict=True)]
            return self._again(file, columns, plain, before, masks)
        if branch == "redraw":
            weights = [self.chain.problem.weights(seed) for seed in self.others]
            starts = [_cut(tree, mask) for tree, mask in zip(weights, masks, strict=True)]
            return Leg(file, columns, starts, masks, until=self.epochs)
        if branch.startswith("transfer-"):
            weights = [self.chain.start(seed) for seed in self.others]
            if branch == "transfer-sign":
                pairs = zip(weights, self.initial, self.ones, strict=True)
                weights = [w | {n: np.abs(w[n]) * np.sign(own[n]) for n in mask} for w, own, mask in pairs]
            starts = [_cut(tree, mask) for tree, mask in zip(weights, masks, strict=True)]
            seen = [{"to_seed": seed} for seed in self.others]
            return Leg(file, columns, starts, masks, step=step, until=self.epochs, noise=self.others, seen=seen)
        action = Action(pruned=branch, tag=tag) if branch in PRUNED else Action(kept=branch, tag=tag)
        return self._again(file, columns, action, before, masks)


def _cut(weights: Tree, mask: Tree) -> Tree:
    return weights | {name: np.where(kept, weights[name], np.float32(0)) for name, kept in mask.items()}
