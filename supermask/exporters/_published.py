"""What models of torchvision and timm hold beside an arch's parameters, so that they load an export strictly.

An arch has no biases, and its norms have neither scale nor offset unless asked; the published model has both. They are
written as what changes nothing: 0 for a bias, 1 and 0 for a norm. Every batch norm is known by its running statistics.
The rest an arch's file says in two literals, in PyTorch's names, where `*` is one part of a name, such as an index:

    TORCH_BIASES = ("fc", "features.*")                        # layers that have a bias there
    TORCH_NORMS = {"blocks.*.norm1": "before blocks.*.qkv",    # layer norms, with the layer that comes after
                   "stem.1": "after stem.0"}                   # or before, which tells their size
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from supermask.types import Tree


def completed(found: Tree, facts: Mapping[str, Any], norm: str) -> Tree:
    """The tensors of a state_dict, and those that the published model has besides.

    Args:
        found: the tensors in PyTorch's names and layouts.
        facts: the literals of the arch's file.
        norm: the arch's kind of norm. Where it is not the published one, its layers are left out, so that the published
            model refuses the export instead of computing something else.
    """
    more: Tree = {}
    for name, array in found.items():
        layer, _, leaf = name.rpartition(".")
        if leaf == "running_var":
            more |= _neutral(layer, len(array)) | {f"{layer}.num_batches_tracked": np.zeros((), np.int64)}
        elif leaf == "weight" and any(_parts(pattern, layer) is not None for pattern in facts.get("TORCH_BIASES", ())):
            more[f"{layer}.bias"] = np.zeros(len(array), np.float32)
    for own, place in facts.get("TORCH_NORMS", {}).items() if norm == "layer" else ():
        side, _, pattern = place.partition(" ")
        for name, array in found.items():
            layer, _, leaf = name.rpartition(".")
            parts = _parts(pattern, layer)
            if leaf == "weight" and parts is not None:
                more |= _neutral(_filled(own, parts), array.shape[1] if side == "before" else len(array))
    return more | found


def _neutral(layer: str, size: int) -> Tree:
    return {f"{layer}.weight": np.ones(size, np.float32), f"{layer}.bias": np.zeros(size, np.float32)}


def _parts(pattern: str, name: str) -> tuple[str, ...] | None:
    """What each `*` of the pattern stands for in the name; None if the name does not fit."""
    match = re.fullmatch(re.escape(pattern).replace(r"\*", r"([^.]+)"), name)
    return match.groups() if match else None


def _filled(pattern: str, parts: tuple[str, ...]) -> str:
    for part in parts:
        pattern = pattern.replace("*", part, 1)
    return pattern
