"""`compare_criteria`: the accuracy of a network's initial weights under masks that its training suggests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from supermask.criteria._criterion import make
from supermask.engine.mask_scorer import MaskScorer
from supermask.engine.problem import Problem
from supermask.engine.saliency import Saliency
from supermask.errors import BadFileError
from supermask.experiments.comparison import Comparison, CriteriaSweep
from supermask.experiments.content import Origin
from supermask.experiments.diagnostics import alignment, moving_to_zero, of_layers
from supermask.experiments.evaluate import problem_of
from supermask.experiments.floors import floors_of
from supermask.experiments.one_shot import Ranked, random_like, signed_constants
from supermask.experiments.warnings import Chance
from supermask.masks.ranking import head_of, keep_fractions
from supermask.runs.results import Run, load_result
from supermask.runtime.numerics import fixed_numerics
from supermask.runtime.places import expand
from supermask.types import Tree
from supermask.weights.layers import density_of
from supermask.weights.parameters import masked_shapes
from supermask.weights.trained import TrainedWeights


@fixed_numerics()
def compare_criteria(
    run: str | Path,
    sweep: CriteriaSweep | None = None,
    *,
    data_dir: str | Path | None = None,
    dataset: str | None = None,
    note: Callable[[str], None] = lambda text: None,
    on_rows: Callable[[list[dict[str, Any]]], None] = lambda rows: None,
) -> Comparison:
    """Score masks by every criterion on the weights that a dense training began with; nothing is trained.

    Args:
        run: the folder of a finished `supermask train` or `lottery`, or a file of weights that were trained dense.
        sweep: what to score; all criteria at all densities of the paper by default.
        data_dir, dataset: where the data lies, as for `evaluate`.
        note: told what a reader of the numbers should know, and how far it is.
        on_rows: given the rows of each criterion and seed as they are found.

    Raises:
        UsageError: a word in the sweep is wrong.
        BadFileError: there is no finished dense training, or its data is missing, damaged or other data.
    """
    sweep = sweep or CriteriaSweep()
    networks = read_networks(Path(run))
    problem, origin = problem_of(networks[0], dataset, expand(data_dir) if data_dir else None)
    for text in origin.notes:
        note(text)
    if not sweep.densities:
        note(f"note: {head_of(problem.parameters)} is taken as the head, which keeps {sweep.keep['head']:g} a round")
    found = Comparison([], Chance.of(problem.dataset.test.targets).share)
    if floors := floors_of(problem.dataset, "test"):
        name, value = max(floors.items(), key=lambda item: item[1])
        found = Comparison([], value, guess=f"the floor `{name}` of the test sequences")
    scorer, saliency, judged = MaskScorer(problem), Saliency(problem), []
    for network in networks:
        _check(network, scorer, problem, origin, note)
        sloped = any(make(name).needs_gradient for name in sweep.criteria)
        gradient = saliency.gradient(network.config.seed, problem.weights(network.config.seed)) if sloped else None
        judged.append(one := _Network(problem, network, sweep, gradient))
        for number, name in enumerate(sweep.criteria, 1):
            rows = one.rows_of(name, scorer)
            found.rows.extend(rows)
            on_rows(rows)
            top = max(rows, key=lambda row: row["val_accuracy"])
            note(
                f"seed {one.seed}  {number}/{len(sweep.criteria)}  {name}  val {top['val_accuracy']:.4f} "
                f"at density {top['density']:.3f}, {top['values']}"
            )
    if sweep.diagnostics:
        places = {row["criterion"]: row["place"] for row in found.best() if row["values"] == sweep.values[0]}
        for one in judged:
            found.masks.extend(one.diagnosed(name, places[name], scorer) for name in sweep.criteria)
            found.layers.extend({"seed": one.seed, **row} for row in of_layers(one.before, one.after))
    return found


def _check(
    network: TrainedWeights, scorer: MaskScorer, problem: Problem, origin: Origin, note: Callable[[str], None]
) -> None:
    """Check that the trained network scores what it scored after its training, and say what that is on test images."""
    everything = {name: np.ones(shape, bool) for name, shape in masked_shapes(problem.parameters).items()}
    seed = network.config.seed
    trained = scorer.as_they_are(network.weights, network.state, everything, seed)
    reproduced = trained.val_accuracy == network.metrics["val_accuracy"]
    origin.check_code(network, reproduced=reproduced)
    if not reproduced and not origin.other_data:
        note(
            f"warning: the validation accuracy {network.metrics['val_accuracy']:.4f} of seed {seed} is not reproduced: "
            f"it is {trained.val_accuracy:.4f} here (another device or JAX version?)"
        )
    note(f"seed {seed}: test accuracy {trained.test_accuracy:.4f} as trained, dense")


def read_networks(path: Path) -> list[TrainedWeights]:
    """Read the trained weights of a run folder, or those in one file.

    Raises:
        BadFileError: it is not a finished dense training.
    """
    if path.is_dir():
        run = Run.open(path)
        if not run.complete:
            raise BadFileError(f"{path} was stopped before its end: finish it with `supermask train --resume {path}`")
        dense = [row for row in run.results if row.get("round", 0) == 0 and row.get("branch", "ticket") == "ticket"]
        networks = [TrainedWeights.load(row["weights"]) for row in dense if "weights" in row]
    else:
        found = load_result(path, "the run folder, or a weights file, of a dense `supermask train`")
        networks = [found] if isinstance(found, TrainedWeights) else []
    if not networks:
        raise BadFileError(f"{path} is a search, which trains no weights; give the run of a `supermask train`")
    if networks[0].mask:
        raise BadFileError(f"{path} was trained under the mask of a ticket; give the run of a dense `supermask train`")
    return networks


class _Network:
    """The masks of one trained network, and how it scores under them."""

    def __init__(self, problem: Problem, network: TrainedWeights, sweep: CriteriaSweep, gradient: Tree | None) -> None:
        """`gradient` is that at the initial weights, or None if no criterion needs it."""
        self.seed, self._sweep, self._problem = network.config.seed, sweep, problem
        weights, names = problem.weights(self.seed), masked_shapes(problem.parameters)
        self.before = {name: weights[name] for name in names}
        self.after = {name: network.weights[name] for name in names}
        constants = signed_constants(self.before) if "signed-constant" in sweep.values else {}
        self._weights = {"initial": weights, "signed-constant": weights | constants, "final": network.weights}
        self._state, self._gradient = problem.initial(self.seed)[1], gradient

    def rows_of(self, name: str, scorer: MaskScorer) -> list[dict[str, Any]]:
        """The rows of one criterion."""
        rows, masks = [], list(self._masks(name))
        for values in self._sweep.values:
            scores = scorer(self._weights[values], self._state, (mask for _, mask in masks), self.seed)
            for (number, mask), score in zip(masks, scores, strict=True):
                row = {"criterion": name, "values": values, "round": number, "density": density_of(mask)}
                rows.append({**row, "seed": self.seed, **score._asdict()})
        return rows

    def diagnosed(self, name: str, place: int, scorer: MaskScorer) -> dict[str, Any]:
        """The row of `Comparison.masks` of one criterion, for its mask at this place among its densities."""
        number, mask = list(self._masks(name))[place]
        both = [mask, random_like(mask, self.seed)]
        ours, other = scorer(self._weights["initial"], self._state, both, self.seed)
        pruned, everywhere = moving_to_zero(self.before, self.after, mask)
        return {
            "criterion": name,
            "seed": self.seed,
            "round": number,
            "density": density_of(mask),
            "pruned_moving_to_zero": pruned,
            "all_moving_to_zero": everywhere,
            "alignment": alignment(self.before, self.after, mask),
            "val_loss": ours.val_loss,
            "random_val_loss": other.val_loss,
        }

    def _masks(self, name: str) -> Iterator[tuple[int | None, Tree]]:
        sweep = self._sweep
        ranked = Ranked(make(name), self.before, self.after, self._gradient, f"{self.seed}/{name}")
        return ranked.masks(keep_fractions(self._problem.parameters, **sweep.keep), sweep.rounds, sweep.densities)
