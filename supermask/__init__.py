"""supermask: find the good network inside a random one.

Weights are drawn once from a seed and never move. Scores are the only thing learned. A method turns scores into
a mask; mask times weights are the effective weights; the network is applied to those, and the gradient is taken
with respect to the scores alone:

    mask      = method.mask(scores, weights, key, progress)
    effective = weights | {name: weights[name] * mask[name]}
    loss      = cross_entropy(model.apply(effective, stats, x, train), y) + method.penalty(scores)

The lines themselves are in `core.py`, the vocabulary in `types.py`, one method per file in `methods/`.

    import supermask
    [ticket] = supermask.search(supermask.SearchConfig(arch="lenet300"))
    print(supermask.evaluate(ticket).accuracy)
    ticket.save("lenet300.safetensors")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from supermask._version import __version__

if TYPE_CHECKING:
    from supermask.config import SearchConfig
    from supermask.errors import SupermaskError
    from supermask.experiments.evaluate import Evaluation, evaluate
    from supermask.experiments.search import Observer, search
    from supermask.ticket import Ticket
    from supermask.types import Dataset, Method, Metrics, Model, Recipe, Split

__all__ = [
    "Dataset",
    "Evaluation",
    "Method",
    "Metrics",
    "Model",
    "Observer",
    "Recipe",
    "SearchConfig",
    "Split",
    "SupermaskError",
    "Ticket",
    "__version__",
    "evaluate",
    "search",
]

_HOMES = {
    "SearchConfig": "config",
    "SupermaskError": "errors",
    "Evaluation": "experiments.evaluate",
    "evaluate": "experiments.evaluate",
    "Observer": "experiments.search",
    "search": "experiments.search",
    "Ticket": "ticket",
    **dict.fromkeys(("Dataset", "Method", "Metrics", "Model", "Recipe", "Split"), "types"),
}


def __getattr__(name: str) -> Any:
    # PEP 562: importing supermask costs nothing until something is used.
    if name not in _HOMES:
        raise AttributeError(f"module 'supermask' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"supermask.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
