"""Snapshots of a training, as arrays and JSON: enough to resume to the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from supermask.engine.sharding import to_host
from supermask.engine.state import Candidate, FitState
from supermask.errors import BadFileError
from supermask.types import Tree

_PLAIN = {"first": int, "step": int, "epochs_done": int, "seconds": float, "data": str}


@dataclass(frozen=True)
class Snapshot:
    """The training of some seeds side by side, between two steps.

    Attributes:
        first: the first of the seeds.
        step, epochs_done, seconds, waited: as in FitState.
        arrays: the arrays that change from step to step, by path.
        best, last: candidates of each seed; [] before the first epoch is done.
        data: identifies the training examples.
    """

    first: int
    step: int
    epochs_done: int
    seconds: float
    arrays: Tree
    best: list[Candidate]
    last: list[Candidate]
    data: str
    waited: float = 0.0

    @classmethod
    def of(cls, state: FitState, data: str) -> Snapshot:
        """Copy a state to the host; `data` identifies the training examples."""
        arrays = {path: np.asarray(leaf) for path, leaf in _flat(to_host(state.moving))}
        where = (state.seeds[0], state.step, state.epochs_done, state.seconds)
        return cls(*where, arrays=arrays, best=state.best, last=state.last, data=data, waited=state.waited)

    def restore(self, state: FitState, data: str, place: Callable[[Any], Any]) -> None:
        """Restore everything into a state that has begun its epoch; `place` moves arrays to the devices.

        Raises:
            BadFileError: the snapshot belongs to another training or to other examples.
        """
        if not _same(self.data, data):
            raise BadFileError("the checkpoint is of other training images: --force starts over")
        for path, leaf in _flat(state.moving):
            found = self.arrays.get(path)
            if found is None or found.shape != leaf.shape or found.dtype != leaf.dtype:
                raise BadFileError(f"the checkpoint's {path} is not that of this run: --force starts over")
        values = [self.arrays[path] for path, _ in _flat(state.moving)]
        state.train, state.sums = place(jax.tree.unflatten(jax.tree.structure(state.moving), values))
        state.step, state.epochs_done, state.seconds = self.step, self.epochs_done, self.seconds
        state.waited, state.best, state.last = self.waited, self.best, self.last

    def is_finite(self) -> bool:
        """Whether all arrays are free of infinities and NaN; only then is the snapshot worth keeping."""
        return all(np.isfinite(array).all() for array in self.arrays.values())

    def pack(self) -> tuple[dict[str, Any], Tree]:
        """Return (JSON values, tensors) for a file."""
        tensors = {f"state/{path}": array for path, array in self.arrays.items()}
        document: dict[str, Any] = {key: getattr(self, key) for key in _PLAIN}
        if self.waited:
            document["waited"] = self.waited
        for kind, candidates in (("best", self.best), ("last", self.last)):
            document[kind] = [{"metrics": c.metrics, "density": c.density} for c in candidates]
            for i, candidate in enumerate(candidates):
                for part, tree in (("result", candidate.result), ("model_state", candidate.model_state)):
                    tensors |= {f"{kind}/{i}/{part}/{name}": np.asarray(array) for name, array in tree.items()}
        return document, tensors

    @classmethod
    def unpack(cls, document: dict[str, Any], tensors: Tree) -> Snapshot:
        """Make the snapshot again from what `pack` returned.

        Raises:
            BadFileError: something is missing.
        """

        def under(prefix: str) -> Tree:
            return {key.removeprefix(prefix): array for key, array in tensors.items() if key.startswith(prefix)}

        def candidates(kind: str) -> list[Candidate]:
            return [
                Candidate(
                    under(f"{kind}/{i}/result/"), under(f"{kind}/{i}/model_state/"), row["metrics"], row["density"]
                )
                for i, row in enumerate(document[kind])
            ]

        try:
            plain: dict[str, Any] = {key: kind(document[key]) for key, kind in _PLAIN.items()}
            plain["waited"] = float(document.get("waited", 0))  # resident data makes nobody wait
            return cls(**plain, arrays=under("state/"), best=candidates("best"), last=candidates("last"))
        except (KeyError, TypeError, ValueError) as error:
            raise BadFileError(f"the checkpoint lacks {error}: --force starts over") from error


def _same(one: str, other: str) -> bool:
    """Whether training examples can be the same: number and labels are, and the images as far as both are known by the
    same. Images that stream are known by their files; `runs.content` compares them once more."""
    if one == other or one.count("-") != 2 or other.count("-") != 2:
        return one == other
    (count, images, labels), (n, others, targets) = one.split("-"), other.split("-")
    return (count, labels) == (n, targets) and images.startswith("files:") != others.startswith("files:")


def _flat(moving: Any) -> list[tuple[str, Any]]:
    found = jax.tree_util.tree_leaves_with_path(moving)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in found]
