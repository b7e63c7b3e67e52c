"""The numerics of all methods: exact top-k, patterns, gradient estimators, noise, initial scores.

Each name is imported when it is first used, so that `supermask.masks.allocation` can be imported without JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supermask.masks.allocation import kept_count as kept_count
    from supermask.masks.estimators import probabilities as probabilities
    from supermask.masks.estimators import sampled as sampled
    from supermask.masks.estimators import straight_through as straight_through
    from supermask.masks.hardened import kept_fraction as kept_fraction
    from supermask.masks.hardened import realise as realise
    from supermask.masks.initial_scores import constant_scores as constant_scores
    from supermask.masks.initial_scores import logit as logit
    from supermask.masks.initial_scores import normal_scores as normal_scores
    from supermask.masks.initial_scores import spread_scores as spread_scores
    from supermask.masks.initial_scores import uniform_scores as uniform_scores
    from supermask.masks.noise import as_vector as as_vector
    from supermask.masks.noise import bernoulli as bernoulli
    from supermask.masks.noise import draw_255 as draw_255
    from supermask.masks.noise import gumbel as gumbel
    from supermask.masks.noise import key_for as key_for
    from supermask.masks.noise import normal_noise as normal_noise
    from supermask.masks.noise import redrawn as redrawn
    from supermask.masks.noise import uniform as uniform
    from supermask.masks.noise import uniform_noise as uniform_noise
    from supermask.masks.patterns import best_first as best_first
    from supermask.masks.patterns import best_of_groups as best_of_groups
    from supermask.masks.patterns import over_layers as over_layers
    from supermask.masks.patterns import parse_pattern as parse_pattern
    from supermask.masks.topk import beyond as beyond
    from supermask.masks.topk import first_cuts as first_cuts
    from supermask.masks.topk import next_cuts as next_cuts
    from supermask.masks.topk import top_k as top_k
    from supermask.masks.topk import top_k_signed as top_k_signed
    from supermask.weights.shapes import fans as fans

_HOMES = {
    "allocation": ("kept_count",),
    "estimators": ("probabilities", "sampled", "straight_through"),
    "hardened": ("kept_fraction", "realise"),
    "initial_scores": ("constant_scores", "logit", "normal_scores", "spread_scores", "uniform_scores"),
    "noise": (
        "as_vector",
        "bernoulli",
        "draw_255",
        "gumbel",
        "key_for",
        "normal_noise",
        "redrawn",
        "uniform",
        "uniform_noise",
    ),
    "patterns": ("best_first", "best_of_groups", "over_layers", "parse_pattern"),
    "topk": ("beyond", "first_cuts", "next_cuts", "top_k", "top_k_signed"),
}
_HOME = {name: f"supermask.masks.{home}" for home, names in _HOMES.items() for name in names}
_HOME["fans"] = "supermask.weights.shapes"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'supermask.masks' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value
