"""SearchConfig and TrainConfig: the names and numbers that fully describe an experiment.

The command line takes its options and their defaults from the fields.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from supermask.config import words
from supermask.config.checks import check_fields, check_weights
from supermask.config.files import OPTIONAL, without_places
from supermask.errors import UsageError


def option(default: Any, help: str, *, group: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": help, "group": group, **more})


@dataclass(frozen=True)
class Config:
    """The fields that all experiments share: network, data, training, machine. See SearchConfig and TrainConfig.

    Raises:
        UsageError: a number is out of range, or a word is not among the choices.
    """

    arch: str = option("conv4", "Network: a name from `supermask list archs`, or pkg.module:Class.", group="network")
    arch_options: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = option(
        "digits",
        "Dataset: a name from `supermask list datasets`, npz:PATH, folder:PATH, hf:PATH or pkg.module:load.",
        group="data",
    )
    init: str | None = option(None, "Distribution of the random weights.", group="network")
    activation: str | None = option(
        None, "Activation function of the built-in networks.", choices=words.ACTIVATIONS, group="network"
    )
    width: float = option(1.0, "Multiply every hidden width by this.", group="network")
    image_size: int | None = option(None, "Resize images to this height and width, in pixels.", group="data")
    normalise: str | None = option(
        None, "Normalise pixels by the dataset, to [0, 1] or by image.", choices=words.NORMALISATIONS, group="data"
    )
    augment: str | None = option(
        None, "Augmentation of training images.  [default: the dataset's]", choices=words.AUGMENTATIONS, group="data"
    )
    validation: float = option(
        0.1,
        "Fraction of the training images held out for validation; with 0 none is, and those that train are scored.",
        group="data",
    )
    order: str | None = option(
        None,
        "The same order of the training images in every epoch: as in their file, or drawn once.  [default: drawn anew]",
        choices=words.ORDERS,
        group="data",
    )
    epochs: int | None = option(None, "Passes over the training images.  [default: the dataset's]", group="training")
    batch_size: int | None = option(None, "Images per step.", group="training")
    optimizer: str | None = option(None, "Optimiser.", choices=words.OPTIMIZERS, group="training")
    learning_rate: float | None = option(None, "Peak learning rate.", alias="--lr", group="training")
    momentum: float | None = option(None, "Momentum (first-moment decay for adam).", group="training")
    weight_decay: float | None = option(
        None, "Decay of scores, or of trained weights: L2, or apart from the gradient with adamw.", group="training"
    )
    clip: float | None = option(None, "Largest norm of a step's whole gradient.  [default: any]", group="training")
    clip_each: float | None = option(
        None, "Largest norm of the gradient of each array, such as a layer's scores.  [default: any]", group="training"
    )
    label_smoothing: float | None = option(
        None, "Share of each target that training spreads over all classes.  [default: 0]", group="training"
    )
    warmup: float | None = option(None, "Epochs in which the learning rate rises.  [default: 0]", group="training")
    schedule: str | None = option(
        None,
        "Learning-rate schedule; staircase: x 0.9 after each tenth, step-staircase: x 0.96 after every 3,900 steps, "
        "multistep: x 0.1 after 1/2 and 3/4.",
        choices=words.SCHEDULES,
        group="training",
    )
    cycles: int | None = option(
        None,
        "Times that the schedule runs through, in as many equal parts of the epochs.  [default: 1]",
        group="training",
    )
    select: str = option(
        "last", "Which epoch to keep; best is by validation accuracy.", choices=words.SELECTIONS, group="training"
    )
    precision: str = option(
        "f32", "Precision of the arithmetic; tf32 needs an NVIDIA GPU.", choices=words.PRECISIONS, group="machine"
    )
    conv: str = option(
        "auto", "Convolution: what suits the device, or XLA's own.", choices=words.CONVOLUTIONS, group="machine"
    )
    devices: int | None = option(
        None, "Devices to spread batches or seeds over.  [default: all GPUs, or CPU cores]", group="machine"
    )
    micro_batch: int | None = option(
        None, "Images per device that are computed at once.  [default: what suits the cache]", group="machine"
    )
    seed: int = option(0, "Seed of weights, scores, data order and sampling.", group="run")
    seeds: int = option(1, "Number of runs, with seeds SEED, SEED+1, ...", group="run")
    experiment: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_fields(self)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values, without those of `OPTIONAL` that are None."""
        return {key: value for key, value in asdict(self).items() if value is not None or key not in OPTIONAL}

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
        own = {key: value for key, value in self.to_dict().items() if value != base.get(key) or key in _NAMES}
        own = without_places(own)
        for key in {"options", "arch_options"} & own.keys():
            own[key] = {name: value for name, value in own[key].items() if value != base[key].get(name)}
        return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def num_results(self) -> int:
        """Number of results that a finished run has."""
        return self.seeds

    @property
    def label(self) -> str:
        """The method, or the experiment; used in names and messages."""
        return ""


@dataclass(frozen=True)
class SearchConfig(Config):
    """The config of a search. Fields that are None take their value from the method's recipe or from the dataset.

    Attributes:
        weights: file, run folder or ticket whose weights are frozen in place of random ones; `init` stays None then.
        within: file of a ticket: what its mask drops stays dropped.
        weights_sha256, within_sha256: hashes of those files, filled in when the config is resolved.

    Raises:
        UsageError: a number is out of range, or a word is not among the choices.
    """

    method: str = option(
        "edge-popup", "Search method: a name from `supermask list methods`, or pkg.module:Class.", group="method"
    )
    options: Mapping[str, Any] = field(default_factory=dict)
    density: float = option(0.5, "Fraction of maskable weights kept.", group="method")
    maskable: str | None = option(
        None, "Mask these parameters too: names, parts or roles, as in 'embed,blocks/*/scale'.", group="network"
    )
    unmasked: str | None = option(None, "Do not mask these parameters, as in 'head'.", group="network")
    train: str | None = option(
        None, "Train the values of these parameters beside the mask, as in 'bias,norm,head'.", group="network"
    )
    gates: str = option(
        "own", "Factors that begin near zero: keep them, or set them to one.", choices=words.GATES, group="network"
    )
    scale_by_density: bool = option(
        False, "Divide the standard deviation of the weights by sqrt(density).", group="network"
    )
    weights: str | None = None
    weights_sha256: str | None = None
    within: str | None = None
    within_sha256: str | None = None
    experiment: ClassVar[str] = "search"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weights(self)

    @classmethod
    def inside(cls, ticket: str | Path, found: SearchConfig) -> Self:
        """Make a config for a search within a ticket, with the network, data and frozen weights of the ticket's search.

        Args:
            ticket: the ticket's file.
            found: the config in the ticket.
        """
        values = {name: getattr(found, name) for name in words.OF_WITHIN}
        if found.weights or found.scale_by_density:  # the seed alone does not tell its weights
            values |= {"init": None, "weights": str(ticket)}
        return cls(**values, within=str(ticket))

    @property
    def label(self) -> str:
        return self.method


@dataclass(frozen=True)
class TrainConfig(Config):
    """The config of weight training, dense or under a ticket's mask.

    Fields that are None take their value from `resolve.TRAINING` or from the dataset.

    Attributes:
        ticket: file of a ticket: its mask is frozen and training starts from its weights. None for dense training.
            `init` is that of the ticket's search; None if weights were given to it.
        ticket_sha256: hash of that file, filled in when the config is resolved.

    Raises:
        UsageError: a number is out of range, or a word is not among the choices.
    """

    ticket: str | None = None
    ticket_sha256: str | None = None
    experiment: ClassVar[str] = "training"

    @classmethod
    def under(cls, ticket: str | Path, found: Config) -> Self:
        """Make a config for training under a ticket's mask, with the network and data of the ticket's search.

        Args:
            ticket: the ticket's file.
            found: the config in the ticket.
        """
        return cls(**{name: getattr(found, name) for name in words.OF_TICKET}, ticket=str(ticket))

    @property
    def label(self) -> str:
        return "train"


_NAMES = ("arch", "dataset", "method")
