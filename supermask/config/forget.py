"""ForgetConfig: generations of forgetting and relearning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from supermask.config import Config, option
from supermask.errors import UsageError

OPS = ("llf", "kels", "wels", "rewind", "imp")
FRESH = ("pytorch", "init")
FREEZE = ("kept", "forgotten")
USED_BY = {
    "layer": ("llf",),
    "split": ("kels", "wels"),
    "keep": ("rewind", "imp"),
    "fresh": ("llf", "kels", "wels"),
    "freeze": ("llf", "kels", "wels", "rewind"),
}
"""Option -> the operators that it is about."""
DEFAULTS = {"split": 0.8, "keep": 0.3}
"""The fraction that an operator takes where its option is left open."""


@dataclass(frozen=True)
class ForgetConfig(Config):
    """The config of forgetting and relearning: a training, then generations that forget a part and train again.

    Fields that are None take their value from `resolve.TRAINING` or from the dataset, or are explained at their option.
    `epochs` are those of one generation.

    Raises:
        UsageError: a number is out of range, a word is not among the choices, or an option is not about the operator.
    """

    op: str = option(
        "llf",
        "What is forgotten: later layers (llf), all but a slice of each kernel (kels) or random weights (wels), small "
        "weights (rewind), or small weights and what was learned by the others (imp).",
        choices=OPS,
        group="method",
    )
    generations: int = option(3, "Trainings, the first one included.", group="method")
    layer: str | None = option(
        None,
        "llf: the first layer to reset, by name or counted from 0.  [default: the later half]",
        group="method",
    )
    split: float | None = option(
        None, "kels, wels: fraction of channels, or of weights, that is kept.  [default: 0.8]", group="method"
    )
    keep: float | None = option(
        None, "rewind, imp: fraction of weights kept in each layer, the largest.  [default: 0.3]", group="method"
    )
    fresh: str | None = option(
        None,
        "llf, kels, wels: draw new values as PyTorch does for a new layer, or by --init.  [default: pytorch]",
        choices=FRESH,
        group="method",
    )
    freeze: str | None = option(
        None,
        "Hold the weights that were kept, or that were forgotten, while the others are trained again.  [default: none]",
        choices=FREEZE,
        group="method",
    )
    long: bool = option(
        False, "Also train once for as long as all generations together, with one schedule.", group="method"
    )
    probe: bool = option(
        False,
        "After each training, let copies forget, and score them on hard and easy training images.",
        group="method",
    )
    probe_every: int | None = option(
        None,
        "Probe also during each training, every so many steps.  [default: after it alone]",
        group="method",
    )
    label_noise: float = option(0.0, "Fraction of the training images that get a wrong label.", group="data")

    experiment: ClassVar[str] = "forgetting experiment"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.generations <= 10**4:
            raise UsageError(f"generations is {self.generations}; it must be from 1 to 10000")
        if self.freeze and self.generations == 1:
            raise UsageError("--freeze is about the generations after the first: ask for --generations 2 or more")
        if self.probe_every is not None and not self.probe:
            raise UsageError("--probe-every is about --probe: add that")
        if self.probe_every is not None and self.select == "best":
            raise UsageError("--probe-every follows each training to its last step: leave out --select best")
        if self.probe_every is not None and self.probe_every < 1:
            raise UsageError(f"probe_every is {self.probe_every}; it must be at least 1")
        if not 0 <= self.label_noise < 1:
            raise UsageError(f"label_noise is {self.label_noise:g}; it must be at least 0 and below 1")
        for name, ops in USED_BY.items():
            value = getattr(self, name)
            if value is None:
                continue
            if self.op not in ops:
                raise UsageError(f"--{name} is about {' and '.join(ops)}, not about {self.op}: leave it out")
            if type(value) is float and not 0 < value < 1:
                raise UsageError(f"{name} is {value:g}; it must be above 0 and below 1")

    def chosen(self, name: str) -> float:
        """The value of `split` or `keep`."""
        value = getattr(self, name)
        return DEFAULTS[name] if value is None else float(value)

    @property
    def redraw(self) -> str:
        """The distribution of new values: a name of an init, or `pytorch`."""
        return str(self.init) if self.fresh == "init" else "pytorch"

    @property
    def num_results(self) -> int:
        """Number of trained networks."""
        return self.seeds * (self.generations + self.long)

    @property
    def label(self) -> str:
        return "forget"
