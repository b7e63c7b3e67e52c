"""The whole vocabulary: Tree, Spec, Recipe, Clock, Method, Arch, Model, Task, Dataset.

Nothing here computes. Arrays are NumPy arrays on the host and JAX arrays on the device; both are `Array`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np

Array = Any
"""A NumPy or a JAX array."""

Tree = dict[str, Array]
"""Flat: '/'-joined parameter path -> array. Its keys are the ticket's tensor names."""

Shapes = dict[str, tuple[int, ...]]
"""Flat like Tree, with the shape in place of the array."""


class Spec(NamedTuple):
    """A plug-in's name and the options it was given, as in `-a norm=batch` or `-o anneal=0.1`."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """How something is trained unless the config says otherwise; a method's is the published one."""

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
    """Which step of the training this is.

    Attributes:
        step: counted from 0, int32 scalar (traced).
        steps_per_epoch, total_steps: of the whole training.
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
class InitContext:
    """The network as functions of its maskable weights, for methods that look at it before they set their scores.

    Attributes:
        loss: (weights, temperature) -> mean loss of outputs / temperature over ten training examples per class.
        response: (weights) -> sum of the outputs for one input of ones.
    """

    loss: Callable[[Tree, float], Array]
    response: Callable[[Tree], Array]


@dataclass(frozen=True)
class Method(abc.ABC):
    """One way to turn scores into a mask. Fields are its hyper-parameters; functions are pure, on trees.

    `scores`, `mask` and the `weights` that a method sees have the keys of the maskable weights. A method needs `init`,
    `mask` and `harden`. Everything else has a default that does nothing.

    A method that carries something from step to step beside its scores defines `init_state`. What that returns, a
    pytree of arrays that no gradient and no optimiser sees, is moved by `after_update`, and given to those of `mask`,
    `harden` and `effective` that name a keyword `state`.

    Attributes:
        density: fraction of maskable weights kept. A method without a target says itself what it means; most
            take it as the density at the start.
        keeps_density: whether the hardened mask keeps round(density * n) weights, of each layer or of all (but for a
            pattern's last group, see there).
        learned: False for a mask that is fixed before training (a baseline): no epoch is run.
        paper: where the method was published.
        recipe: how it is trained as published.
    """

    density: float = 0.5

    keeps_density: ClassVar[bool] = False
    learned: ClassVar[bool] = True
    paper: ClassVar[str] = ""
    recipe: ClassVar[Recipe] = Recipe()

    def check(self, shapes: Shapes) -> None:
        """Raise a UsageError if the method, with these options, cannot mask weights of these shapes."""
        return

    @abc.abstractmethod
    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        """The first scores: float32, shapes as `weights`, or with an axis in front; once per seed, outside jit."""

    def init_state(self, scores: Tree, weights: Tree) -> Any:
        """The first `method_state`, a pytree of arrays; {} for a method that has none."""
        return {}

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
        """Effective weights: mask times weights, unless a method scales, binarises or redraws them.

        Args:
            weights: the maskable ones.
            mask: as `mask` returned it, or as `harden` did, then as float32 and drawn if it is sampled (and without
                `state`). NumPy or JAX arrays.
        """
        return {name: weights[name] * mask[name] for name in mask}

    def after_update(
        self, scores: Tree, state: Any, before: Tree, weights: Tree, *, key: Array, clock: Clock
    ) -> tuple[Tree, Any]:
        """Scores and `method_state` after the optimiser's update: a projection, or an event.

        `before` holds the scores of this step's forward pass, `key` is fresh.
        """
        return scores, state

    def resets_optimizer(self, clock: Clock) -> Array | bool:
        """Whether the optimiser's moments start anew after this step."""
        return False

    def steps_per_epoch(self, count: int, size: int) -> int:
        """Steps of `size` examples in an epoch of `count`."""
        return count // size

    def order(self, key: Array, epoch: Array, count: int, size: int) -> Array | None:
        """The order of the training examples in an epoch, int32 (steps * size,); None for a fresh permutation."""
        return None


@dataclass(frozen=True)
class Model:
    """A network as shapes and a pure function.

    Attributes:
        weights, state: shapes of all parameters, and of batch statistics and the like.
        apply: (weights, state, inputs, *, train, key) -> (outputs, state); `key` is for noise in training, else None.
    """

    weights: Shapes
    state: Shapes
    apply: Callable[..., tuple[Array, Tree]]


class Arch(Protocol):
    """A network definition: a frozen dataclass whose fields are its options, as a method's are."""

    def build(self, example: Any, outputs: int, rngs: Any) -> Any:
        """A `flax.nnx.Module` or a Model; called under `jax.eval_shape`, so that no weight is computed.

        Args:
            example: `jax.ShapeDtypeStruct` of a batch of two inputs, such as float32 (2, height, width, channels).
            outputs: the number of classes, or of tokens.
            rngs: `flax.nnx.Rngs`.
        """


class Sums(NamedTuple):
    """Totals over predictions: loss (float32), how many were right and how many count (int32)."""

    loss: Array
    correct: Array
    count: Array


class Task(Protocol):
    """What outputs mean: a loss, and when a prediction is right. A target below 0 counts for nothing."""

    def output_shape(self, inputs: tuple[int, ...], outputs: int) -> tuple[int, ...]:
        """What a network has to return for inputs of this shape (batch first)."""

    def loss(self, outputs: Array, targets: Array) -> Sums:
        """Summed over the batch; differentiable in `outputs`."""


@dataclass(frozen=True)
class Split:
    """Images as uint8 (n, height, width, channels) and labels as int32 (n,)."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """Splits of one dataset. `mean` and `std` are per channel, of pixels in [0, 1]; `task` is a file of `tasks/`.

    A dataset file returns `validation=None`; `supermask.data.splits` then holds it out of train.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    validation: Split | None = None
    task: str = "classification"
