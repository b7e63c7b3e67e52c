"""supermask: find the good network inside a random one.

Weights are drawn once from a seed and never move. Scores are the only thing learned. A method turns scores into
a mask; mask times weights are the effective weights; the network is applied to those, and the gradient is taken
with respect to the scores alone:

    mask      = method.mask(scores, weights, key, progress)
    effective = weights | {name: weights[name] * mask[name]}
    loss      = task.loss(model.apply(effective, state, inputs), targets) + method.penalty(scores)

The lines themselves are in `core.py`, the vocabulary in `types.py`, one method per file in `methods/`.

    import supermask
    [ticket] = supermask.search(supermask.SearchConfig(arch="lenet300"))
    print(supermask.evaluate(ticket).accuracy)
    ticket.save("lenet300.safetensors")
"""

from __future__ import annotations

import importlib

from supermask._version import __version__

TYPE_CHECKING = False  # `typing` is not imported: `python -m supermask` still has the current folder on the path here
if TYPE_CHECKING:
    from typing import Any

    from supermask.config import SearchConfig, TrainConfig
    from supermask.config.forget import ForgetConfig
    from supermask.config.lottery import LotteryConfig
    from supermask.engine.callbacks import Callback, Metrics
    from supermask.errors import SupermaskError
    from supermask.experiments.comparison import CriteriaSweep
    from supermask.experiments.connect import Connection, connect
    from supermask.experiments.criteria import compare_criteria
    from supermask.experiments.evaluate import Evaluation, evaluate
    from supermask.experiments.forget import forget
    from supermask.experiments.lottery import lottery
    from supermask.experiments.options import CheckpointPolicy, RunOptions
    from supermask.experiments.search import search
    from supermask.experiments.train import train
    from supermask.runs.results import Run, load_result
    from supermask.ticket import Ticket
    from supermask.types import Dataset, Method, Model, Recipe, Split
    from supermask.weights.trained import TrainedWeights

__all__ = [
    "Callback",
    "CheckpointPolicy",
    "Connection",
    "CriteriaSweep",
    "Dataset",
    "Evaluation",
    "ForgetConfig",
    "LotteryConfig",
    "Method",
    "Metrics",
    "Model",
    "Recipe",
    "Run",
    "RunOptions",
    "SearchConfig",
    "Split",
    "SupermaskError",
    "Ticket",
    "TrainConfig",
    "TrainedWeights",
    "__version__",
    "compare_criteria",
    "connect",
    "evaluate",
    "forget",
    "load_result",
    "lottery",
    "search",
    "train",
]

_HOMES = {
    "config": ("SearchConfig", "TrainConfig"),
    "config.forget": ("ForgetConfig",),
    "config.lottery": ("LotteryConfig",),
    "engine.callbacks": ("Callback", "Metrics"),
    "errors": ("SupermaskError",),
    "experiments.comparison": ("CriteriaSweep",),
    "experiments.criteria": ("compare_criteria",),
    "experiments.connect": ("Connection", "connect"),
    "experiments.evaluate": ("Evaluation", "evaluate"),
    "experiments.forget": ("forget",),
    "experiments.lottery": ("lottery",),
    "experiments.options": ("CheckpointPolicy", "RunOptions"),
    "experiments.search": ("search",),
    "experiments.train": ("train",),
    "runs.results": ("Run", "load_result"),
    "ticket": ("Ticket",),
    "types": ("Dataset", "Method", "Model", "Recipe", "Split"),
    "weights.trained": ("TrainedWeights",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    # PEP 562: `import supermask` stays cheap; a name is imported when it is first used.
    if name not in _HOME:
        raise AttributeError(f"module 'supermask' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"supermask.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
