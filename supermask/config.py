"""SearchConfig: names and numbers that say everything about a search. Every option and default is read from it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from supermask.errors import UsageError, require

OPTIMIZERS = ("sgd", "nesterov", "adam")
SCHEDULES = ("cosine", "constant", "staircase")
ACTIVATIONS = ("relu", "elu")
NORMALISATIONS = ("dataset", "unit", "image")
AUGMENTATIONS = ("none", "crop-flip")
SELECTIONS = ("last", "best")
PRECISIONS = ("f32", "bf16", "tf32")
CONVOLUTIONS = ("auto", "xla")
SPLITS = ("test", "validation", "train")
CONTROLS = ("shuffled", "redrawn", "inverted", "random")


def _option(default: Any, help: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": help, **more})


@dataclass(frozen=True)
class SearchConfig:
    """A search, whole. A field that is None takes the value of the method's recipe or of the dataset.

    Raises:
        UsageError: a number is out of range or a word is not one of its choices.
    """

    arch: str = _option("conv4", "Network: a name of `supermask list archs`, or pkg.module:Class.")
    dataset: str = _option(
        "digits", "Dataset: a name of `supermask list datasets`, npz:PATH, folder:PATH or pkg.module:load."
    )
    method: str = _option("edge-popup", "Search method: a name of `supermask list methods`, or pkg.module:Class.")
    options: Mapping[str, Any] = field(default_factory=dict)
    density: float = _option(0.5, "Fraction of maskable weights kept.")
    init: str | None = _option(None, "Distribution of the frozen weights.  [default: the method's]")
    scale_by_density: bool = _option(False, "Divide the standard deviation of the weights by sqrt(density).")
    activation: str | None = _option(
        None, "Between the layers of the built-in networks.  [default: the method's]", choices=ACTIVATIONS
    )
    width: float = _option(1.0, "Multiply every hidden width by this.")
    image_size: int | None = _option(None, "Resize images to this height and width, in pixels.")
    normalise: str | None = _option(
        None,
        "Pixels by the dataset's mean and deviation, to [0, 1] alone, or by each image's own.  [default: the method's]",
        choices=NORMALISATIONS,
    )
    augment: str | None = _option(
        None, "Augmentation of training images.  [default: the dataset's]", choices=AUGMENTATIONS
    )
    validation: float = _option(0.1, "Fraction of the training images held out for validation.")
    epochs: int | None = _option(None, "Passes over the training images.  [default: the dataset's]")
    batch_size: int | None = _option(None, "Images per step.  [default: the method's]")
    optimizer: str | None = _option(None, "Optimiser of the scores.  [default: the method's]", choices=OPTIMIZERS)
    learning_rate: float | None = _option(
        None, "Peak learning rate of the scores.  [default: the method's]", alias="--lr"
    )
    momentum: float | None = _option(None, "Momentum (first-moment decay for adam).  [default: the method's]")
    weight_decay: float | None = _option(None, "L2 decay of the scores.  [default: the method's]")
    schedule: str | None = _option(
        None,
        "Learning rate over the epochs; staircase: x 0.9 after each tenth.  [default: the method's]",
        choices=SCHEDULES,
    )
    select: str = _option(
        "last", "Epoch whose mask becomes the ticket; best is by validation accuracy.", choices=SELECTIONS
    )
    precision: str = _option(
        "f32", "Of effective weights and activations; tf32 needs an NVIDIA GPU.", choices=PRECISIONS
    )
    conv: str = _option("auto", "Convolution: the one that suits the device, or XLA's own.", choices=CONVOLUTIONS)
    devices: int | None = _option(None, "Devices to spread batches, or seeds, over.  [default: all GPUs, or CPU cores]")
    micro_batch: int | None = _option(
        None, "Images that go through the network at once, on each device.  [default: what suits the cache]"
    )
    seed: int = _option(0, "Seed of weights, scores, order and sampling.")
    seeds: int = _option(1, "Number of searches, with seeds SEED, SEED+1, ...")

    def __post_init__(self) -> None:
        for item in fields(self):
            self._check_type(item.name, getattr(item.type, "__name__", str(item.type)))
        for name, low, high, text in _RANGES:
            value = getattr(self, name)
            if value is None:
                continue
            if not (math.isfinite(value) and low <= value <= high):
                raise UsageError(f"{name} is {value}; it must be {text}")
        if self.seed + self.seeds > 2**32:
            raise UsageError(
                f"seeds from {self.seed} to {self.seed + self.seeds - 1} are more than go up to {2**32 - 1}"
            )
        for item in fields(self):
            choices = item.metadata.get("choices")
            value = getattr(self, item.name)
            if choices and value is not None:
                require(item.name, value, choices)

    def _check_type(self, name: str, annotation: str) -> None:
        """JSON and Python callers may give anything; whole numbers become floats where floats are meant."""
        value = getattr(self, name)
        kind, *optional = annotation.split(" | ")
        if value is None and optional:
            return
        if kind == "float" and type(value) is int:
            object.__setattr__(self, name, float(value))
        elif kind.startswith("Mapping") and isinstance(value, Mapping):
            object.__setattr__(self, name, dict(value))
        elif type(value).__name__ != kind:
            raise UsageError(f"{name} is {value!r}; it must be {_KINDS.get(kind, 'an object of names and values')}")

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SearchConfig:
        """The config of `to_dict`.

        Raises:
            UsageError: a key is not a field of SearchConfig, or a value is out of range.
        """
        known = {item.name for item in fields(cls)}
        for key in values:
            if key not in known:
                raise UsageError(f"unknown config key {key!r}; the keys are: {', '.join(sorted(known))}")
        return cls(**values)

    def replace(self, **changes: Any) -> SearchConfig:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def digest(self, defaults: SearchConfig) -> str:
        """Eight hex digits that name this config among those with the same `defaults`.

        Values equal to the default are left out, so that a field added later does not rename old runs.
        """
        base = defaults.to_dict()
        own = {key: value for key, value in self.to_dict().items() if value != base[key] or key in _NAMES}
        if "options" in own:
            own["options"] = {key: value for key, value in self.options.items() if value != defaults.options.get(key)}
        return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:8]


_NAMES = ("arch", "dataset", "method")
_KINDS = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}
_TINY = 5e-324  # the smallest float above zero: an open lower bound
_RANGES = (
    ("density", _TINY, 1, "above 0 and at most 1"),
    ("width", _TINY, 1e6, "above 0 and at most 1e6"),
    ("image_size", 1, 4096, "from 1 to 4096"),
    ("validation", _TINY, 1 - 1e-9, "above 0 and below 1"),
    ("epochs", 0, 10**9, "from 0 to 1e9"),
    ("batch_size", 1, 10**9, "from 1 to 1e9"),
    ("devices", 1, 4096, "from 1 to 4096"),
    ("micro_batch", 1, 10**9, "from 1 to 1e9"),
    ("learning_rate", _TINY, 1e9, "above 0 and at most 1e9"),
    ("momentum", 0, 1 - 1e-9, "at least 0 and below 1"),
    ("weight_decay", 0, 1e9, "from 0 to 1e9"),
    ("seed", 0, 2**32 - 1, "from 0 to 4294967295"),
    ("seeds", 1, 10**6, "from 1 to 1e6"),
)
