"""Looks at a user's own network before its first step: one forward and backward pass over a few training examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from supermask import registry
from supermask.config.advice import fitting
from supermask.core import Parametrization
from supermask.data.feed import example_of
from supermask.data.splits import noun_of
from supermask.engine.evaluator import seed_key
from supermask.engine.problem import Problem
from supermask.engine.programs import Start
from supermask.errors import listed
from supermask.types import Array, Clock, Model, Tree
from supermask.weights.parameters import is_closed_gate, masked_shapes

IMAGES = 16
SPREAD = (1e-6, 1e4)
"""Standard deviation of the outputs over different inputs below which they vanish, and above which they explode."""

HELP = "try --scale-by-density, another --init or a higher --density"
"""What helps against all of this."""


def probe(problem: Problem, parametrization: Parametrization) -> Callable[[int, Tree, Start], list[str]]:
    """Return a function (seed, frozen tree, start) -> warnings; it compiles only once.

    It says nothing of the tool's own networks, for it would compile another program for each search, nor where nothing
    is trained.
    """
    if not (registry.is_own("archs", problem.config.arch) and problem.config.epochs):
        return lambda seed, frozen, start: []
    return Probe(problem, parametrization)


class Probe:
    """Warns of outputs that are the same for all inputs, vanish or explode, and of layers without a gradient."""

    def __init__(self, problem: Problem, parametrization: Parametrization) -> None:
        self._problem, self._parametrization = problem, parametrization
        train = problem.dataset.train
        order = np.argsort(np.random.Philox(key=len(train)).random_raw(len(train)), kind="stable")[:IMAGES]
        self._data = train.inputs[order], train.targets[order]
        # The program runs once a seed, so it need not be fast; on a CPU it is compiled in half the time.
        quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
        self._look = jax.jit(self._measured, compiler_options=quick)

    def __call__(self, seed: int, frozen: Tree, start: Start) -> list[str]:
        images = self._data[0]
        if (images == images[0]).all():
            return []  # outputs that are the same say nothing then
        state = self._problem.initial(seed)[1]
        outputs, slopes, gains = jax.device_get(self._look(seed_key(seed), state, frozen, start, self._data))
        example, noun = example_of(self._problem.dataset.train, len(images)), noun_of(self._problem.dataset)
        told = [*_of_parameters(self._problem, seed), *_of_statistics(self._problem.model, state, example)]
        told += [*_of_outputs(outputs, gains, noun), *_of_slopes(slopes)]
        return [fitting(text, self._problem.config) for text in told]

    def _measured(self, key: Array, state: Tree, frozen: Tree, start: Start, data: tuple[Array, Array]) -> Any:
        """Return the outputs, and by masked layer the largest slope and the gain of its effective weights."""
        problem, (images, targets) = self._problem, data
        clock = Clock(jnp.int32(0), problem.pipeline.steps_per_epoch, problem.total_steps)
        weights, _ = self._parametrization.weights(*start, frozen, key, clock)
        inputs = problem.pipeline.normalise(images)

        def loss(weights: Tree) -> tuple[Array, Array]:
            outputs, _ = problem.model.apply(weights, state, inputs, train=True, key=key)
            return problem.task.loss(outputs, targets).loss, outputs

        slopes, outputs = jax.grad(loss, has_aux=True)(weights)
        layers = masked_shapes(problem.parameters)
        gains = {name: jnp.sqrt(jnp.sum(weights[name] ** 2) / weights[name].shape[-1]) for name in layers}
        return outputs.astype(jnp.float32), {name: jnp.abs(slopes[name]).max() for name in layers}, gains


def _of_parameters(problem: Problem, seed: int) -> list[str]:
    """Warn of what is left out because the outputs do not depend on it, and of frozen factors near zero."""
    own = problem.initial(seed)[0]
    unused = [name for name, found in problem.parameters.items() if found.role == "unused" and len(found.shape) > 1]
    closed = [name for name, array in own.items() if is_closed_gate(problem.parameters[name], array)]
    texts = []
    if unused:
        texts.append(f"the outputs do not depend on {listed(unused)}: neither masked nor stored")
    if closed and problem.method is not None:
        texts.append(
            f"next to nothing passes {listed(closed)}, factors of at most 0.01 that a search does not train, so what "
            "is behind has no say: try --gates one, or --train"
        )
    return texts


def _of_statistics(model: Model, state: Tree, example: jax.ShapeDtypeStruct) -> list[str]:
    """Warn of batch statistics that training leaves alone, or that evaluation changes, since it takes the batch's."""
    names = [name for name, kind in model.layers.items() if kind == "BatchStat"]
    if not names:
        return []
    advice = "hand train, or use_running_average, on to the layers that take it, or leave it to the module's mode"
    texts = []
    if still := [name for name in names if name not in model.changes]:
        texts.append(f"training never changes {listed(still)}, so evaluation divides by their first values: {advice}")

    def evaluated(state: Tree, weights: Tree, inputs: Array) -> Tree:
        return model.apply(weights, state, inputs, train=False, key=None)[1]

    weights = {name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in model.weights.items()}
    jaxpr = jax.make_jaxpr(evaluated)(state, weights, example).jaxpr
    pairs = zip(sorted(state), jaxpr.invars, jaxpr.outvars, strict=False)
    if moved := [name for name, before, after in pairs if name in names and after is not before]:
        texts.append(f"evaluation changes {listed(moved)}, so it depends on what else is in a batch: {advice}")
    return texts


def _of_outputs(outputs: np.ndarray, gains: dict[str, np.ndarray], noun: str = "images") -> list[str]:
    """Warn of outputs (batch, ...) for as many images or sequences. The layer to blame is the one whose weights shrink,
    or amplify, their inputs most: the root of the summed squares of the weights of one output, in the mean."""
    low, high = SPREAD
    ranked = sorted(gains, key=lambda name: float(gains[name]))
    if not np.isfinite(outputs).all():
        return [f"before the first step the outputs are not finite; {_blamed(ranked[-1], gains)}: {HELP}"]
    spread, level = float(outputs.std(axis=0).max()), float(np.abs(outputs).max())
    if spread > high:
        return [
            f"before the first step the outputs explode: they vary by {spread:.2g} over {noun}, more than {high:g}; "
            f"{_blamed(ranked[-1], gains)}: {HELP}"
        ]
    if spread > low * max(1.0, level):  # float32 has no finer steps beside large outputs
        return []
    return [
        f"before the first step the outputs are the same for {len(outputs)} different {noun}: they vary by "
        f"{spread:.2g}, less than {low:g}; {_blamed(ranked[0], gains)}: {HELP}"
    ]


def _blamed(name: str, gains: dict[str, np.ndarray]) -> str:
    gain = float(gains[name])
    return f"{name} multiplies its inputs by {gain:.2g}" if gain else f"all effective weights of {name} are 0"


def _of_slopes(slopes: dict[str, np.ndarray]) -> list[str]:
    dead = [name for name, slope in slopes.items() if slope == 0]
    if not dead:
        return []
    return [f"before the first step no gradient reaches {listed(dead)}, so nothing is learned there: {HELP}"]
