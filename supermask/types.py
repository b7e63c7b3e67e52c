"""The whole vocabulary: Tree, Recipe, Method, Model, Split, Dataset, Metrics.

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


@dataclass(frozen=True)
class Method(abc.ABC):
    """One way to turn scores into a mask. Fields are its hyper-parameters; functions are pure, on trees.

    `scores` and `mask` have the keys of the maskable weights, and so has the `weights` that a method sees.

    Attributes:
        density: fraction of maskable weights kept. What it means for a method without a target is the
            method's to say; most read it as the density at the start.
        learned: False for a mask that is fixed before training (a floor): no epoch is run.
        paper: where the method was published.
        recipe: how it is trained as published.
    """

    density: float = 0.5

    learned: ClassVar[bool] = True
    paper: ClassVar[str] = ""
    recipe: ClassVar[Recipe] = Recipe()

    @abc.abstractmethod
    def init(self, key: Array, weights: Tree) -> Tree:
        """Scores to start from: float32, shapes as `weights`. Called once per seed, outside of jit."""

    @abc.abstractmethod
    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        """The mask of one training step, float32 and differentiable with respect to the scores.

        `key` is fresh in every step; `progress` rises from 0 to 1 over the search (float32 scalar).
        """

    @abc.abstractmethod
    def harden(self, scores: Tree, weights: Tree) -> Tree:
        """The final mask. Its dtype says its kind:

        bool: binary. int8: signed, or coats. float32: continuous. uint8: sampled, the probability of being
        kept in 255ths; whoever uses such a mask draws from it.
        """

    def penalty(self, scores: Tree) -> Array:
        """A scalar added to the loss."""
        return 0.0

    def transform(self, weights: Tree, mask: Tree) -> Tree:
        """What the mask is multiplied with, for methods that scale or binarise weights; `weights` by default.

        Called with the maskable weights and the mask in use (in training, evaluation and export alike) and
        written with array methods and operators only, so that it takes NumPy and JAX arrays.
        """
        return weights


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
