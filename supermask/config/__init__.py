"""SearchConfig and TrainConfig: the names and numbers that fully describe an experiment.

The command line takes its options and their defaults from the fields.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from supermask.errors import UsageError, require

OPTIMIZERS = ("sgd", "nesterov", "adam")
SCHEDULES = ("cosine", "constant", "staircase")
ACTIVATIONS = ("relu", "elu")
NORMALISATIONS = ("dataset", "unit", "image")
AUGMENTATIONS = ("none", "crop-flip")
SELECTIONS = ("last", "best")
PRECISIONS = ("f32", "bf16", "tf32")
CONVOLUTIONS = ("auto", "xla")
GATES = ("own", "one")
SPLITS = ("test", "validation", "train")
OF_TICKET = (
    *("arch", "arch_options", "width", "activation", "init"),
    *("dataset", "image_size", "normalise", "augment", "validation", "seed"),
)
"""Fields that training under a ticket takes from the search that found it."""
CONTROLS = ("shuffled", "redrawn", "inverted", "random")


def _option(default: Any, help: str, *, group: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": help, "group": group, **more})


@dataclass(frozen=True)
class Config:
    """The fields that all experiments share: network, data, training, machine. See SearchConfig and TrainConfig.

    Raises:
        UsageError: a number is out of range, or a word is not among the choices.
    """

    arch: str = _option("conv4", "Network: a name from `supermask list archs`, or pkg.module:Class.", group="network")
    arch_options: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = _option(
        "digits",
        "Dataset: a name from `supermask list datasets`, npz:PATH, folder:PATH or pkg.module:load.",
        group="data",
    )
    init: str | None = _option(None, "Distribution of the random weights.", group="network")
    activation: str | None = _option(
        None, "Activation function of the built-in networks.", choices=ACTIVATIONS, group="network"
    )
    width: float = _option(1.0, "Multiply every hidden width by this.", group="network")
    image_size: int | None = _option(None, "Resize images to this height and width, in pixels.", group="data")
    normalise: str | None = _option(
        None, "Normalise pixels by the dataset, only to [0, 1], or by each image.", choices=NORMALISATIONS, group="data"
    )
    augment: str | None = _option(
        None, "Augmentation of training images.  [default: the dataset's]", choices=AUGMENTATIONS, group="data"
    )
    validation: float = _option(0.1, "Fraction of the training images held out for validation.", group="data")
    epochs: int | None = _option(None, "Passes over the training images.  [default: the dataset's]", group="training")
    batch_size: int | None = _option(None, "Images per step.", group="training")
    optimizer: str | None = _option(None, "Optimiser.", choices=OPTIMIZERS, group="training")
    learning_rate: float | None = _option(None, "Peak learning rate.", alias="--lr", group="training")
    momentum: float | None = _option(None, "Momentum (first-moment decay for adam).", group="training")
    weight_decay: float | None = _option(None, "L2 decay of scores, or of trained weights.", group="training")
    schedule: str | None = _option(
        None, "Learning-rate schedule; staircase: x 0.9 after each tenth.", choices=SCHEDULES, group="training"
    )
    select: str = _option(
        "last", "Which epoch's result to keep; best is by validation accuracy.", choices=SELECTIONS, group="training"
    )
    precision: str = _option(
        "f32", "Precision of the network's arithmetic; tf32 needs an NVIDIA GPU.", choices=PRECISIONS, group="machine"
    )
    conv: str = _option(
        "auto", "Convolution: what suits the device, or XLA's own.", choices=CONVOLUTIONS, group="machine"
    )
    devices: int | None = _option(
        None, "Devices to spread batches or seeds over.  [default: all GPUs, or CPU cores]", group="machine"
    )
    micro_batch: int | None = _option(
        None, "Images per device that are computed at once.  [default: what suits the cache]", group="machine"
    )
    seed: int = _option(0, "Seed of weights, scores, data order and sampling.", group="run")
    seeds: int = _option(1, "Number of runs, with seeds SEED, SEED+1, ...", group="run")

    def __post_init__(self) -> None:
        for item in fields(self):
            self._check_type(item.name, getattr(item.type, "__name__", str(item.type)))
        for name, low, high, text in _RANGES:
            value = getattr(self, name, None)
            if value is None:
                continue
            if not (math.isfinite(value) and low <= value <= high):
                raise UsageError(f"{name} is {value}; it must be {text}")
        if self.seed + self.seeds > 2**32:
            raise UsageError(
                f"seeds run from {self.seed} to {self.seed + self.seeds - 1}; the highest seed is {2**32 - 1}"
            )
        for item in fields(self):
            choices = item.metadata.get("choices")
            value = getattr(self, item.name)
            if choices and value is not None:
                require(item.name, value, choices)

    def _check_type(self, name: str, annotation: str) -> None:
        """Check a field's type, since JSON and Python callers may pass anything; an int for a float is converted."""
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
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a config from the values of `to_dict`.

        Raises:
            UsageError: a key is not a field of this config, or a value is out of range.
        """
        known = {item.name for item in fields(cls)}
        for key in values:
            if key not in known:
                raise UsageError(f"unknown config key {key!r}; the keys are: {', '.join(sorted(known))}")
        return cls(**values)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def digest(self, defaults: Config) -> str:
        """Return eight hex digits that tell this config from others with the same `defaults`.

        Values equal to the default are left out, so adding a field later does not rename old runs.
        """
        base = defaults.to_dict()
        own = {key: value for key, value in self.to_dict().items() if value != base[key] or key in _NAMES}
        if own.get("ticket_sha256"):
            own.pop("ticket")  # what is in it counts, not where it lies
        for key in {"options", "arch_options"} & own.keys():
            own[key] = {name: value for name, value in own[key].items() if value != base[key].get(name)}
        return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def label(self) -> str:
        """The method, or `train`; used in names and messages."""
        return ""


@dataclass(frozen=True)
class SearchConfig(Config):
    """The config of a search. Fields that are None take their value from the method's recipe or from the dataset.

    Raises:
        UsageError: a number is out of range, or a word is not among the choices.
    """

    method: str = _option(
        "edge-popup", "Search method: a name from `supermask list methods`, or pkg.module:Class.", group="method"
    )
    options: Mapping[str, Any] = field(default_factory=dict)
    density: float = _option(0.5, "Fraction of maskable weights kept.", group="method")
    maskable: str | None = _option(
        None, "Mask these parameters too: names, parts or roles, as in 'embed,blocks/*/scale'.", group="network"
    )
    unmasked: str | None = _option(None, "Do not mask these parameters, as in 'head'.", group="network")
    train: str | None = _option(
        None, "Train the values of these parameters beside the mask, as in 'bias,norm,head'.", group="network"
    )
    gates: str = _option(
        "own", "Factors that begin near zero: keep them, or set them to one.", choices=GATES, group="network"
    )
    scale_by_density: bool = _option(
        False, "Divide the standard deviation of the weights by sqrt(density).", group="network"
    )

    @property
    def label(self) -> str:
        return self.method


@dataclass(frozen=True)
class TrainConfig(Config):
    """The config of weight training, dense or under a ticket's mask.

    Fields that are None take their value from `resolve.TRAINING` or from the dataset.

    Attributes:
        ticket: file of a ticket: its mask is frozen and training starts from its weights. None for dense training.
        ticket_sha256: hash of that file, filled in when the config is resolved.

    Raises:
        UsageError: a number is out of range, or a word is not among the choices.
    """

    ticket: str | None = None
    ticket_sha256: str | None = None

    @classmethod
    def under(cls, ticket: str | Path, found: Config) -> Self:
        """Make a config for training under a ticket's mask, with the network and data of the ticket's search.

        Args:
            ticket: the ticket's file.
            found: the config in the ticket.
        """
        return cls(**{name: getattr(found, name) for name in OF_TICKET}, ticket=str(ticket))

    @property
    def label(self) -> str:
        return "train"


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
