"""Masks layer by layer: how dense they are, and how they lie in a file."""

from __future__ import annotations

from typing import Any

import numpy as np

from supermask.storage import bitpack
from supermask.types import Shapes, Tree

MASK_KINDS = {"bool": "binary", "int8": "whole", "float32": "continuous", "uint8": "sampled"}
"""What a mask is, by its dtype; see `Method.harden`."""

GROUPS = ("bits", "small", "mask")


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


def packed(mask: Tree) -> Tree:
    """The tensors of a file: `bits/NAME` if binary, `small/NAME` if of whole numbers, else `mask/NAME`."""
    tensors: Tree = {}
    for name, array in mask.items():
        if array.dtype == np.bool_:
            tensors[f"bits/{name}"] = bitpack.pack_bits(array)
        elif array.dtype == np.int8:
            tensors[f"small/{name}"] = bitpack.pack_small(array)
        else:
            tensors[f"mask/{name}"] = np.ascontiguousarray(array)
    return tensors


def unpacked(groups: dict[str, Tree], shapes: Shapes) -> Tree:
    """The mask of `packed`, in the order of `shapes`; `groups` has the tensors by what stands before their first `/`.

    Raises:
        ValueError: the tensors are not those of masks of these shapes.
    """
    if sorted(name for group in GROUPS for name in groups[group]) != sorted(shapes):
        raise ValueError("its masks are not those of its layers")
    mask: Tree = {}
    for name, shape in shapes.items():
        if name in groups["bits"]:
            mask[name] = bitpack.unpack_bits(groups["bits"][name], shape)
        elif name in groups["small"]:
            mask[name] = bitpack.unpack_small(groups["small"][name], shape)
        else:
            mask[name] = groups["mask"][name].reshape(shape)
            if str(mask[name].dtype) not in MASK_KINDS:
                raise ValueError(f"the mask of {name} is {mask[name].dtype}")
    return mask


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
