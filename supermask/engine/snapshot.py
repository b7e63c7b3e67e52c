"""Where searches stand, as arrays and JSON: what is needed to go on to the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from supermask.engine.programs import Searching
from supermask.engine.sharding import Layout
from supermask.errors import BadFileError
from supermask.types import Tree


@dataclass(frozen=True)
class Candidate:
    """A mask on the host that may become the ticket of a seed."""

    mask: Tree
    stats: Tree
    metrics: dict[str, float]
    density: float


@dataclass(frozen=True)
class Snapshot:
    """Some seeds that lie side by side, between two steps.

    Attributes:
        first: the first of the seeds.
        steps_done, epochs_done: of an epoch that is done, the mask has been scored.
        train_seconds: so far.
        state: the leaves of the state on the devices, by path.
        best, last: candidates of each seed; [] before the first epoch is done.
        data: names the training images and labels.
    """

    first: int
    steps_done: int
    epochs_done: int
    train_seconds: float
    state: Tree
    best: list[Candidate]
    last: list[Candidate]
    data: str

    def is_finite(self) -> bool:
        """Whether no score and no moment is infinite or NaN: only such a snapshot is worth keeping."""
        return all(np.isfinite(array).all() for array in self.state.values())

    def pack(self) -> tuple[dict[str, Any], Tree]:
        """(JSON values, tensors) for a file."""
        tensors = {f"state{path}": array for path, array in self.state.items()}
        document = {key: getattr(self, key) for key in ("first", "steps_done", "epochs_done", "train_seconds", "data")}
        for kind, candidates in (("best", self.best), ("last", self.last)):
            document[kind] = [{"metrics": c.metrics, "density": c.density} for c in candidates]
            for i, candidate in enumerate(candidates):
                for part, tree in (("mask", candidate.mask), ("stats", candidate.stats)):
                    tensors |= {f"{kind}/{i}/{part}/{name}": np.asarray(array) for name, array in tree.items()}
        return document, tensors

    @classmethod
    def unpack(cls, document: dict[str, Any], tensors: Tree) -> Snapshot:
        """The snapshot of `pack`.

        Raises:
            BadFileError: something is missing.
        """

        def under(prefix: str) -> Tree:
            return {key.removeprefix(prefix): array for key, array in tensors.items() if key.startswith(prefix)}

        try:
            candidates = {
                kind: [
                    Candidate(under(f"{kind}/{i}/mask/"), under(f"{kind}/{i}/stats/"), row["metrics"], row["density"])
                    for i, row in enumerate(document[kind])
                ]
                for kind in ("best", "last")
            }
            return cls(
                first=int(document["first"]),
                steps_done=int(document["steps_done"]),
                epochs_done=int(document["epochs_done"]),
                train_seconds=float(document["train_seconds"]),
                state=under("state"),
                data=str(document["data"]),
                **candidates,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadFileError(f"the checkpoint lacks {error}: --force searches anew") from error


def leaves_of(state: Searching) -> Tree:
    """What moves from step to step, on the host, by path."""
    return {path: np.asarray(leaf) for path, leaf in _flat(state)}


def put_back(state: Searching, leaves: Tree, layout: Layout) -> None:
    """The opposite of `leaves_of`, into a state that has begun its epoch.

    Raises:
        BadFileError: they are not those of such a state.
    """
    for path, leaf in _flat(state):
        found = leaves.get(path)
        if found is None or found.shape != leaf.shape or found.dtype != leaf.dtype:
            raise BadFileError(f"the checkpoint's {path} is not that of this search: --force searches anew")
    moving = (state.inner, state.loss, state.correct)
    values: Sequence[np.ndarray] = [leaves[path] for path, _ in _flat(state)]
    state.inner, state.loss, state.correct = layout.place(jax.tree.unflatten(jax.tree.structure(moving), values))


def _flat(state: Searching) -> list[tuple[str, Any]]:
    found = jax.tree_util.tree_leaves_with_path((state.inner, state.loss, state.correct))
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in found]
