"""Wrapped: a method that does what another one does, to be changed in some points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from supermask.core import asked
from supermask.types import Array, Clock, InitContext, Method, Shapes, Tree


@dataclass(frozen=True, kw_only=True, eq=False)
class Wrapped(Method):
    """Another method; its own state is `own` in the `method_state`.

    Attributes:
        method: does the search.
    """

    method: Method

    @property
    def signed_ranks(self) -> bool:
        """Whether scores below 0 are lower than 0: as the method says, or else they are."""
        return bool(getattr(self.method, "signed_ranks", True))

    def numbers(self, shapes: Shapes) -> tuple[Any, Callable[[Any], Method]]:
        found, given = self.method.numbers(shapes)
        return found, lambda numbers: replace(self, method=given(numbers))

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        return self.method.init(key, weights, context)

    def init_state(self, scores: Tree, weights: Tree) -> Any:
        return {"own": self.method.init_state(scores, weights)}

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array, state: Any = None) -> Tree:
        return self.method.mask(
            scores, weights, key=key, progress=progress, **asked(self.method.mask, state=state and state["own"])
        )

    def harden(self, scores: Tree, weights: Tree, state: Any = None) -> Tree:
        return self.method.harden(scores, weights, **asked(self.method.harden, state=state and state["own"]))

    def penalty(self, scores: Tree, *, progress: Array, state: Any = None) -> Array:
        more = asked(self.method.penalty, state=state and state["own"])
        return self.method.penalty(scores, progress=progress, **more)

    def effective(self, weights: Tree, mask: Tree, state: Any = None) -> Tree:
        more = {} if state is None else asked(self.method.effective, state=state["own"])
        return self.method.effective(weights, mask, **more)

    def after_update(
        self, scores: Tree, state: Any, before: Tree, weights: Tree, *, key: Array, clock: Clock, loss: Array = 0.0
    ) -> tuple[Tree, Any]:
        more = {"key": key, "clock": clock} | asked(self.method.after_update, loss=loss)
        moved, own = self.method.after_update(scores, state["own"], before, weights, **more)
        return moved, {**state, "own": own}

    def resets_optimizer(self, clock: Clock) -> Array | bool:
        return self.method.resets_optimizer(clock)
