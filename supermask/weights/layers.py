"""Masks layer by layer: how dense they are, and how they lie in a file."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from supermask.storage import bitpack
from supermask.types import Shapes, Tree

MASK_KINDS = {"bool": "binary", "int8": "whole", "float32": "continuous", "uint8": "sampled"}
"""What a mask is, by its dtype; see `Method.harden`."""

GROUPS = ("bits", "free", "small", "mask")


def mask_kind(mask: Tree) -> str:
    """binary, signed, whole (coats and the like), continuous or sampled."""
    kind = MASK_KINDS[next(iter(mask.values())).dtype.name]
    return "signed" if kind == "whole" and any(array.min() < 0 for array in mask.values()) else kind


def layer_rows(mask: Tree) -> list[dict[str, Any]]:
    """One row per masked parameter: name, shape, kept, total, density; of a sampled mask what is expected."""
    rows = []
    for name, array in mask.items():
        expected = array.sum(dtype=np.int64) / 255 if array.dtype == np.uint8 else np.count_nonzero(array)
        kept = round(float(expected))
        row = {"name": name, "shape": list(array.shape), "kept": kept, "total": array.size}
        rows.append({**row, "density": kept / array.size})
    return rows


def density_of(mask: Tree) -> float:
    """Fraction of all masked weights that is kept."""
    rows = layer_rows(mask)
    return sum(row["kept"] for row in rows) / sum(row["total"] for row in rows)


def as_factors(mask: Tree) -> Tree:
    """The mask as float32; of a sampled one, its mean."""
    return {
        name: np.float32(array) / np.float32(255) if array.dtype == np.uint8 else array.astype(np.float32)
        for name, array in mask.items()
    }


def bits_per_parameter(mask: Tree, frozen: Tree) -> float:
    """See `Ticket.bits_per_parameter`; `frozen` as in `packed`."""
    if mask_kind(mask) == "continuous":
        return 32.0
    total = sum(array.size for array in mask.values())
    if mask_kind(mask) == "sampled":
        shares, count = np.array([density_of(mask), 1 - density_of(mask)]), total
    else:
        values = np.concatenate([searched(array, frozen.get(name)).astype(np.int8) for name, array in mask.items()])
        count = values.size
        shares = np.unique(values, return_counts=True)[1] / max(1, count)
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum() * (count / total) + math.log2(max(1, count)) / total)


def searched(array: np.ndarray, frozen: np.ndarray | None) -> np.ndarray:
    """The mask values of a layer that were searched for, in one dimension."""
    found: np.ndarray = array.ravel() if frozen is None else array[frozen == 0]
    return found


def packed(mask: Tree, frozen: Tree | None = None) -> Tree:
    """The tensors of a file: `bits/NAME` if binary, `small/NAME` if of whole numbers, else `mask/NAME`.

    Args:
        frozen: patterns, see `weights.frozen`: of a binary layer only what was searched for is stored, as `free/NAME`.
    """
    tensors: Tree = {}
    for name, array in mask.items():
        fixed = (frozen or {}).get(name)
        if fixed is not None and array.dtype == np.bool_ and (array[fixed != 0] == (fixed[fixed != 0] > 0)).all():
            tensors[f"free/{name}"] = bitpack.pack_bits(array[fixed == 0])
        elif array.dtype == np.bool_:
            tensors[f"bits/{name}"] = bitpack.pack_bits(array)
        elif array.dtype == np.int8:
            tensors[f"small/{name}"] = bitpack.pack_small(array)
        else:
            tensors[f"mask/{name}"] = np.ascontiguousarray(array)
    return tensors


def unpacked(groups: dict[str, Tree], shapes: Shapes, frozen: Tree | None = None) -> Tree:
    """The mask of `packed`, in the order of `shapes`; `groups` has the tensors by what stands before their first `/`.

    Raises:
        ValueError: the tensors are not those of masks of these shapes.
    """
    if sorted(name for group in GROUPS for name in groups[group]) != sorted(shapes):
        raise ValueError("its masks are not those of its layers")
    mask: Tree = {}
    for name, shape in shapes.items():
        if name in groups["free"]:
            mask[name] = _filled(groups["free"][name], (frozen or {})[name])
        elif name in groups["bits"]:
            mask[name] = bitpack.unpack_bits(groups["bits"][name], shape)
        elif name in groups["small"]:
            mask[name] = bitpack.unpack_small(groups["small"][name], shape)
        else:
            mask[name] = groups["mask"][name].reshape(shape)
            if str(mask[name].dtype) not in MASK_KINDS:
                raise ValueError(f"the mask of {name} is {mask[name].dtype}")
    return mask


def _filled(bits: np.ndarray, frozen: np.ndarray) -> np.ndarray:
    found: np.ndarray = frozen > 0
    found[frozen == 0] = bitpack.unpack_bits(bits, (int((frozen == 0).sum()),))
    return found


def read_shapes(document: dict[str, Any]) -> Shapes:
    """The shapes that a file's document holds.

    Raises:
        ValueError: they are not all of whole numbers above 0.
    """
    shapes = {name: tuple(shape) for name, shape in document["shapes"].items()}
    if any(type(length) is not int or length < 1 for shape in shapes.values() for length in shape):
        raise ValueError("its shapes are not all of whole numbers")
    return shapes


def check_metrics(document: dict[str, Any]) -> None:
    """Raise a ValueError unless metrics and versions are objects, and metrics numbers with a val_accuracy."""
    for key in ("metrics", "versions"):
        if not isinstance(document[key], dict):
            raise ValueError(f"its {key} is not an object")
    for key, value in {"val_accuracy": None, **document["metrics"]}.items():
        if type(value) not in (int, float):
            raise ValueError(f"its {key} is no number")


def read_content(document: dict[str, Any]) -> dict[str, str]:
    """The fingerprints of data and code that a file's document holds, see `runs.content`; {} in earlier files.

    Raises:
        ValueError: they are not text.
    """
    content = document.get("content", {})
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise ValueError("its content is not an object of names and texts")
    return content


def grouped(tensors: Tree, names: tuple[str, ...]) -> dict[str, Tree]:
    """The tensors by what stands before their first `/`.

    Raises:
        KeyError: that is none of `names`.
    """
    groups: dict[str, Tree] = {name: {} for name in names}
    for key, array in tensors.items():
        group, _, name = key.partition("/")
        groups[group][name] = array
    return groups
