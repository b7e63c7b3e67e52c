"""What is found while the tensors of a file are matched to a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from supermask.errors import BadFileError, listed
from supermask.types import Tree


@dataclass
class Match:
    """What was found while tensors were matched."""

    wrong: list[str] = field(default_factory=list)
    infinite: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    rounded: list[str] = field(default_factory=list)

    def as_float32(self, name: str, array: np.ndarray) -> np.ndarray:
        if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
            self.wrong.append(f"{name} is {array.dtype} there and float32 in the network")
            return np.zeros(array.shape, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            cast = array.astype(np.float32)
            if not np.isfinite(cast).all():
                self.infinite.append(name)
            elif (cast.astype(array.dtype) != array).any():
                self.rounded.append(name)
        return cast

    def leave_out(self, name: str, array: np.ndarray, is_neutral: bool) -> None:
        """Leave out a tensor that the network has no place for, if it changes nothing."""
        if is_neutral:
            self.left_out.append(name)
        else:
            self.wrong.append(f"{name} {array.shape} is not in the network")

    def check(self, path: Path, arch: str) -> None:
        if self.wrong:
            raise BadFileError(f"{path} does not fit {arch}: {'; '.join(sorted(self.wrong))}")
        if self.infinite:
            raise BadFileError(f"{path} holds values that are not finite, in {listed(sorted(self.infinite))}")

    def notes(self) -> tuple[str, ...]:
        found = []
        if self.left_out:
            names = listed(sorted(self.left_out))
            found.append(f"note: tensors left out that change nothing: {len(self.left_out)} ({names})")
        if self.rounded:
            names = listed(sorted(self.rounded))
            found.append(f"note: tensors rounded to float32: {len(self.rounded)} ({names})")
        return tuple(found)


def is_neutral(name: str, array: Any, expected: Tree, added: Tree) -> bool:
    """Whether a network without this tensor computes the same.

    So it does without a counter, and without an offset of 0 or a factor of 1 of a layer that it has. A factor of 1
    alone does not say that: it may belong to a norm, which does more than multiply.

    Args:
        expected: what the network has, by the same names.
        added: what an export of the network would hold besides.
    """
    mark = "/" if "/" in name else "."
    layer, _, leaf = name.rpartition(mark)
    if leaf == "num_batches_tracked":
        return True
    if array.ndim > 1 or not (array.dtype.kind in "fiu" or array.dtype.name == "bfloat16"):
        return False
    if name in added:
        return np.array_equal(array, added[name])
    there = {leaf for other, _, leaf in (key.rpartition(mark) for key in expected) if other == layer}
    statistics = there & {"running_var", "var"}
    if leaf == "bias":
        return bool(there & {"weight", "kernel"} or statistics) and bool((array == 0).all())
    return leaf in ("weight", "scale") and bool(statistics) and bool((array == 1).all())
