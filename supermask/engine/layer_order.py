"""The layers of a network as it applies them: their order, and which see flattened images."""

from __future__ import annotations

from supermask.archs._pure import state_of
from supermask.archs._usage import trace
from supermask.data.feed import example_of
from supermask.engine.problem import Problem
from supermask.weights.parameters import masked_shapes


def layers_of(problem: Problem) -> dict[str, tuple[int, ...]]:
    """Maskable parameters in the order in which images meet them -> the shape, channels last, of the images whose
    flattened form they see, or ().

    Names do not tell the order (`fc` comes before `layer1`), so the network is traced once more.
    """
    model = problem.model
    example = example_of(problem.dataset.train)
    found, masked = trace(model.apply, model.weights, state_of(model), example), masked_shapes(problem.parameters)
    return {name: found.uses[name].flattened for name in found.order if name in masked}
