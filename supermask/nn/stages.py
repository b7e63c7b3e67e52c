"""Cuts a traced network into stages: within one, every example is by itself; at its end are sums over the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var

from supermask.nn.batch_axis import SUM, Axis, MixesExamplesError, of_outputs


@dataclass
class Stage:
    """Equations between two sums over the batch.

    Attributes:
        forward: those that lead to `outputs`, which later stages or sums read.
        summing: those that lead from the outputs, or from what the stage reads, to the sums.
        reads: what the stage reads of each example; `whole`, what it reads besides.
    """

    forward: list[JaxprEqn] = field(default_factory=list)
    summing: list[JaxprEqn] = field(default_factory=list)
    sums: list[Var] = field(default_factory=list)
    outputs: list[Var] = field(default_factory=list)
    reads: list[Var] = field(default_factory=list)
    whole: list[Var] = field(default_factory=list)


class Plan:
    """How a traced function is cut into stages that end with sums over the batch.

    Args:
        closed: the Jaxpr of the function for one piece of the batch.
        batched: which arguments hold one entry for each example, along axis 0.
        random: which are keys of random numbers; nothing may depend on them, for each piece would draw its own.
        examples: number of examples of a piece, 2 or more.

    Raises:
        MixesExamplesError: the function mixes examples other than by sums, or makes arrays that depend on their number.
    """

    def __init__(self, closed: ClosedJaxpr, batched: Sequence[bool], random: Sequence[bool], examples: int) -> None:
        self.jaxpr, self.examples = closed.jaxpr, examples
        keys = {v for v, is_key in zip(self.jaxpr.invars, random, strict=True) if is_key}
        if any(a in keys for eqn in self.jaxpr.eqns for a in eqn.invars if isinstance(a, Var)):
            raise MixesExamplesError
        self.axes: dict[Var, Axis] = {v: 0 if b else None for v, b in zip(self.jaxpr.invars, batched, strict=True)}
        self.moving = set(self.jaxpr.invars)  # what has a gradient: constants have none
        self._stage: dict[Var, int] = {}  # in which stage an array of examples is computed, or before which a sum is
        self.stages: list[Stage] = []
        self.plain: list[tuple[int, JaxprEqn]] = []
        for eqn in self.jaxpr.eqns:
            self._place(eqn, examples)
        for stage in self.stages:
            self._complete(stage)

    def shape(self, var: Any, examples: int) -> tuple[int, ...]:
        """The shape of a variable for another number of examples."""
        shape = list(var.aval.shape)
        if self.axis(var) is not None:
            shape[self.axis(var)] = shape[self.axis(var)] * examples // self.examples
        return tuple(shape)

    def axis(self, atom: Any) -> Axis:
        return None if isinstance(atom, Literal) else self.axes.get(atom)

    def _place(self, eqn: JaxprEqn, examples: int) -> None:
        found = of_outputs(eqn, [self.axis(atom) for atom in eqn.invars], examples)
        number = max([self._stage.get(a, 0) for a in eqn.invars if isinstance(a, Var)], default=0)
        if found is None:
            self.plain.append((number, eqn))
        else:
            while len(self.stages) <= number:
                self.stages.append(Stage())
            self.stages[number].forward.append(eqn)
            if found == SUM:
                self.stages[number].sums += eqn.outvars
        if eqn.primitive.name != "stop_gradient" and any(a in self.moving for a in eqn.invars if isinstance(a, Var)):
            self.moving.update(eqn.outvars)
        for var in eqn.outvars:
            self.axes[var] = None if found == SUM else found
            self._stage[var] = number + (found == SUM)

    def _complete(self, stage: Stage) -> None:
        """Fill in what a stage reads and puts out, and part its equations into those before and after its outputs."""
        made = {var for eqn in stage.forward for var in eqn.outvars}
        later = [eqn for other in self.stages if other is not stage for eqn in (*other.forward, *other.summing)]
        wanted = {a for eqn in later for a in eqn.invars if isinstance(a, Var)} | {
            a for a in self.jaxpr.outvars if isinstance(a, Var)
        }
        wanted = {var for var in wanted & made if self.axis(var) is not None}
        needed = set(wanted)
        for eqn in reversed(stage.forward):
            if needed.intersection(eqn.outvars):
                needed.update(a for a in eqn.invars if isinstance(a, Var))
        stage.summing = [eqn for eqn in stage.forward if not needed.intersection(eqn.outvars)]
        stage.forward = [eqn for eqn in stage.forward if needed.intersection(eqn.outvars)]
        between = {var for eqn in stage.forward for var in eqn.outvars}
        wanted |= {a for eqn in stage.summing for a in eqn.invars if a in between}
        stage.outputs = [var for eqn in stage.forward for var in eqn.outvars if var in wanted]
        read = dict.fromkeys(a for e in (*stage.forward, *stage.summing) for a in e.invars if isinstance(a, Var))
        stage.reads = [var for var in read if var not in made and self.axis(var) is not None]
        stage.whole = [var for var in read if var not in made and self.axis(var) is None]
