"""The whole vocabulary: Tree, Recipe, Clock, Network, Method, Model, Split, Dataset, Metrics.

Nothing here computes. Arrays are NumPy arrays on the host and JAX arrays on the device; both are `Array`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np

Array = Any
"""A NumPy or a JAX array."""

Tree = dict[str, Array]
"""Flat: '/'-joined parameter path -> array. Its keys are the ticket's tensor names."""

Shapes = dict[str, tuple[int, ...]]
"""Flat like Tree, with the shape in place of the array."""


@dataclass(frozen=True)
class Recipe:
    """How a method is trained as published; every field can be overridden by a field of SearchConfig."""

    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    batch_size: int = 128
    init: str = "signed-constant"
    activation: str = "relu"
    normalise: str = "dataset"


@dataclass(frozen=True)
class Clock:
    """Which step of a search this is.

    Attributes:
        step: counted from 0, int32 scalar (traced).
        steps_per_epoch, total_steps: of the search.
    """

    step: Array
    steps_per_epoch: int
    total_steps: int

    @property
    def progress(self) -> Array:
        """0 at the first step, 1 at the last, float32 scalar."""
        return self.step.astype("float32") / max(1, self.total_steps - 1)

    @property
    def epochs_done(self) -> Array:
        """Whole epochs that are over when this step is, int32 scalar."""
        return (self.step + 1) // self.steps_per_epoch

    def ends_epoch(self, every: int = 1) -> Array:
        """Whether this step is the last of an epoch, or of every so many epochs."""
        return (self.step + 1) % (every * self.steps_per_epoch) == 0


@dataclass(frozen=True)
class Network:
    """The network as functions of its maskable effective weights, for methods that look before they choose.

    Attributes:
        loss: (weights, temperature) -> mean cross-entropy of logits / temperature over ten training images per class.
        response: (weights) -> sum of the logits of one image of ones.
    """

    loss: Callable[[Tree, float], Array]
    response: Callable[[Tree], Array]


@dataclass(frozen=True)
class Method(abc.ABC):
    """One way to turn scores into a mask. Fields are its hyper-parameters; functions are pure, on trees.

    `scores` and `mask` have the keys of the maskable weights, and so has the `weights` that a method sees. What it
    carries from step to step without training it lies beside the scores under keys of its own, such as
    `conv1/kernel:generation`: float32 arrays that no gradient and no optimiser sees and that `settle` moves.

    A method needs `init`, `mask` and `harden`. Everything else has a default that does nothing.

    Attributes:
        density: fraction of maskable weights kept. What it means for a method without a target is the
            method's to say; most read it as the density at the start.
        keeps_density: whether the hardened mask keeps round(density * n) weights, of each layer or of all (but for a
            pattern's last group, see there).
        learned: False for a mask that is fixed before training (a floor): no epoch is run.
        paper: where the method was published.
        recipe: how it is trained as published.
    """

    density: float = 0.5

    keeps_density: ClassVar[bool] = False
    learned: ClassVar[bool] = True
    paper: ClassVar[str] = ""
    recipe: ClassVar[Recipe] = Recipe()

    def check(self, shapes: Shapes) -> None:
        """Raise a UsageError if these maskable weights are none that the method, as it is set, can mask."""
        return

    def init(self, key: Array, weights: Tree) -> Tree:
        """Scores to start from: float32, shapes as `weights`, or with an axis in front.

        Called once per seed, outside of jit. A method that looks at the network defines `start` in its place.
        """
        raise NotImplementedError(f"{type(self).__name__} defines neither init nor start")

    @abc.abstractmethod
    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        """The mask of one training step, float32 and differentiable with respect to the scores.

        `key` is fresh in every step; `progress` rises from 0 to 1 over the search (float32 scalar). Shapes are those
        of the weights; a method with an `effective` of its own may put an axis in front.
        """

    @abc.abstractmethod
    def harden(self, scores: Tree, weights: Tree) -> Tree:
        """The final mask, shapes as `weights`. Its dtype says its kind:

        bool: binary. int8: signed if any is negative, else whole numbers. float32: continuous. uint8: sampled, the
        probability of being kept in 255ths; whoever uses such a mask draws from it.
        """

    def penalty(self, scores: Tree, *, progress: Array) -> Array:
        """A scalar added to the loss; `progress` as for `mask`."""
        return 0.0

    def effective(self, weights: Tree, mask: Tree) -> Tree:
        """Effective weights: mask times weights, unless a method scales, binarises or draws them anew.

        Args:
            weights: the maskable ones.
            mask: as `mask` made it, or as `harden` did, as float32 and drawn if it is sampled. NumPy or JAX arrays.
        """
        return {name: weights[name] * mask[name] for name in mask}

    def settle(self, scores: Tree, before: Tree, weights: Tree, *, key: Array, clock: Clock) -> Tree:
        """The scores, and what is carried beside them, after the optimiser has moved them: a projection, an event.

        `before` is as they were in this step's forward pass, `key` is fresh.
        """
        return scores

    def restarts(self, clock: Clock) -> Array | bool:
        """Whether the optimiser's moments start anew after this step."""
        return False

    def start(self, key: Array, weights: Tree, network: Network) -> Tree:
        """`init`, for methods that look at the network and at training images first."""
        return self.init(key, weights)

    def steps_per_epoch(self, count: int, size: int) -> int:
        """Steps of `size` images in an epoch of `count`."""
        return count // size

    def order(self, key: Array, epoch: Array, count: int, size: int) -> Array | None:
        """The order of the training images in an epoch, int32 (steps * size,); None for a fresh permutation."""
        return None


@dataclass(frozen=True)
class Model:
    """A network as shapes and a pure function.

    Attributes:
        weights: shapes of all parameters.
        stats: shapes of batch statistics; {} for nets without batch norm.
        apply: (weights, stats, x of shape (batch, height, width, channels), train) -> (logits, stats).
    """

    weights: Shapes
    stats: Shapes
    apply: Callable[[Tree, Tree, Array, bool], tuple[Array, Tree]]


@dataclass(frozen=True)
class Split:
    """Images as uint8 (n, height, width, channels) and labels as int32 (n,)."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """Splits of one dataset. `mean` and `std` are per channel, of pixels scaled to [0, 1].

    A dataset file returns `validation=None`; the split is then held out of train by whoever builds the search.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    validation: Split | None = None


@dataclass(frozen=True)
class Metrics:
    """What one epoch showed; every array has shape (seeds,) and accuracies are fractions in [0, 1].

    Attributes:
        epoch: how many epochs are done, counted from 1.
        seeds: the seeds that the columns belong to.
        images_per_second: training images over the epoch's wall time, compilation excluded.
    """

    epoch: int
    seeds: tuple[int, ...]
    loss: np.ndarray
    train_accuracy: np.ndarray
    val_accuracy: np.ndarray
    density: np.ndarray
    images_per_second: np.ndarray
