"""The vocabulary: Tree, Spec, Recipe, Clock, Method, Arch, Model, Task, Dataset. Nothing here computes anything."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np

Array = Any  # a NumPy array on the host, or a JAX array on the device

Tree = dict[str, Array]
"""A flat dict: '/'-joined parameter path -> array. The keys are the names of tensors in a ticket."""

Shapes = dict[str, tuple[int, ...]]  # like Tree, with shapes in place of arrays


class Spec(NamedTuple):
    """A plug-in's name and the options given for it, such as `-a norm=batch` or `-o anneal=0.1`."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """Training settings for whatever the config leaves open; a method's recipe is the published one."""

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
    """The position of a step in the training: `step` is counted from 0, int32 scalar (traced)."""

    step: Array
    steps_per_epoch: int
    total_steps: int

    @property
    def progress(self) -> Array:
        """0 at the first step, 1 at the last, float32 scalar."""
        return self.step.astype("float32") / max(1, self.total_steps - 1)

    @property
    def epochs_done(self) -> Array:
        """Epochs completed once this step is done, int32 scalar."""
        return (self.step + 1) // self.steps_per_epoch

    def ends_epoch(self, every: int = 1) -> Array:
        """Whether this step completes an epoch, or a group of `every` epochs."""
        return (self.step + 1) % (every * self.steps_per_epoch) == 0


@dataclass(frozen=True)
class InitContext:
    """The network as functions of its maskable weights, for methods that derive their first scores from it.

    Attributes:
        loss: (weights, temperature) -> mean loss of outputs / temperature over ten training examples per class.
        response: (weights) -> sum of the outputs for one input of ones.
        fans: (fan-in, fan-out) of each maskable parameter.
    """

    loss: Callable[[Tree, float], Array]
    response: Callable[[Tree], Array]
    fans: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Method(abc.ABC):
    """One way to turn scores into a mask. Its fields are hyper-parameters; its functions are pure functions of trees.

    The trees `scores`, `mask` and `weights` have the keys of the maskable weights. `init`, `mask` and `harden` must be
    defined; the others do nothing by default. `init_state` gives a state beside the scores, which no gradient and no
    optimiser sees. `mask`, `penalty`, `harden` and `effective` receive it if they have a keyword argument `state`.

    Attributes:
        density: fraction of maskable weights kept; at the start, if the method does not enforce it.
        keeps_density: whether the hardened mask keeps round(density * n) weights, per layer or over all layers.
        learned: False if the mask is fixed before training (a baseline); no epoch is run then, unless `train` says so.
        paper: the publication of the method.
        recipe: the published training recipe.
        least_epochs: a search has this many epochs unless told otherwise, or the dataset's number if that is higher.
        added: options of this class that earlier versions did not have -> the value that says what those did.
    """

    density: float = 0.5

    keeps_density: ClassVar[bool] = False
    learned: ClassVar[bool] = True
    paper: ClassVar[str] = ""
    recipe: ClassVar[Recipe] = Recipe()
    least_epochs: ClassVar[int] = 0
    added: ClassVar[Mapping[str, Any]] = {}

    def check(self, shapes: Shapes) -> None:
        """Raise a UsageError if the method, with these options, cannot mask weights of these shapes."""
        return

    def numbers(self, shapes: Shapes) -> tuple[Any, Callable[[Any], Method]]:
        """(numbers, function): ints and floats, arguments of compiled steps; their traced values -> this method."""
        return {}, lambda numbers: self

    @abc.abstractmethod
    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        """Return the first scores: float32, shaped like `weights` or with a leading axis; once a seed, outside jit."""

    def init_state(self, scores: Tree, weights: Tree) -> Any:
        """Return the first `method_state`, a pytree of arrays; {} for a method without state."""
        return {}

    @abc.abstractmethod
    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        """Return the mask of one training step: float32, differentiable with respect to the scores.

        It has the shapes of the weights; a method that overrides `effective` may add a leading axis. `key` is new in
        every step; `progress` rises from 0 to 1 over the search (float32 scalar).
        """

    @abc.abstractmethod
    def harden(self, scores: Tree, weights: Tree) -> Tree:
        """Return the final mask, shaped like `weights`. Its dtype determines its kind:

        bool: binary. int8: signed if any value is negative, else whole numbers. float32: continuous. uint8: sampled;
        each value is the probability of keeping the weight in 255ths, and whoever uses the mask draws from it.
        """

    def penalty(self, scores: Tree, *, progress: Array) -> Array:
        """Return a scalar to add to the loss; `progress` as in `mask`."""
        return 0.0

    def effective(self, weights: Tree, mask: Tree) -> Tree:
        """Return the effective weights: mask times weights, unless a method scales, binarises or redraws them.

        `mask` is that of a training step; or hardened, then cast to float32, drawn if it is sampled, without `state`.
        """
        return {name: weights[name] * mask[name] for name in mask}

    def after_update(
        self, scores: Tree, state: Any, before: Tree, weights: Tree, *, key: Array, clock: Clock
    ) -> tuple[Tree, Any]:
        """Return scores and `method_state` after the optimiser's update. `before` holds the scores of the forward pass,
        whose mean loss it receives if it has a keyword argument `loss`; `key` is new in every step."""
        return scores, state

    def resets_optimizer(self, clock: Clock) -> Array | bool:
        """Whether to reset the optimiser's moments after this step."""
        return False

    def turns(self, steps_per_epoch: int) -> tuple[int, int]:
        """(number of optimisers that take turns, steps of a turn); each keeps its moments while others work."""
        return 1, 1

    def steps_per_epoch(self, count: int, size: int) -> int:
        """Number of steps in an epoch, for `count` examples in batches of `size`."""
        return count // size

    def order(self, key: Array, epoch: Array, count: int, size: int) -> Array | None:
        """Order of the training examples in an epoch, int32 (steps * size,); None for a new random permutation."""
        return None


@dataclass(frozen=True)
class Model:
    """A network as shapes and a pure function.

    Attributes:
        weights, state: shapes of all parameters, and of batch statistics and all other arrays ({} if there are none).
        apply: (weights, state, inputs, *, train, key) -> (outputs, state); `key` is for noise, None in evaluation.
        initial: (seed, names) -> (the network's own initial values of these parameters, those of its state).
        layers: type of the layer that owns a parameter, see `weights.parameters`; BatchStat for running statistics.
        parameters, changes, outputs: roles of parameters, names of the state that training changes, the outputs'
            `jax.ShapeDtypeStruct`; filled in when the network is traced.
        ghost: number of examples that share their batch statistics; 0 if all of a batch do.
    """

    weights: Shapes
    state: Shapes
    apply: Callable[..., tuple[Array, Tree]]
    initial: Callable[..., tuple[Tree, Tree]] | None = None
    layers: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    changes: frozenset[str] = frozenset()
    outputs: Any = None
    ghost: int = 0


class Arch(Protocol):
    """A network definition: a frozen dataclass whose fields are its options, like a method."""

    def build(self, example: Any, outputs: int, rngs: Any) -> Any:
        """Return a `flax.nnx.Module` or a Model, from `flax.nnx.Rngs`; traced, so no weight is computed.
        `example` is the `jax.ShapeDtypeStruct` of two inputs: float32 (2, height, width, channels), int32 (2, length);
        `outputs` is the number of classes, or of tokens."""


class Sums(NamedTuple):
    """Totals over predictions: loss (float32), number of correct predictions and number of predictions (int32)."""

    loss: Array
    correct: Array
    count: Array


class Task(Protocol):
    """The meaning of a network's outputs: a loss, and when a prediction is correct. Targets below 0 are ignored."""

    def output_shape(self, inputs: tuple[int, ...], outputs: int) -> tuple[int, ...]:
        """The shape that a network must return for inputs of this shape (batch first)."""

    def loss(self, outputs: Array, targets: Array) -> Sums:
        """Return the sums over the batch; the loss is differentiable with respect to `outputs`."""


@dataclass(frozen=True)
class Split:
    """Images, uint8 (n, height, width, channels), or tokens, int32 (n, length); int32 targets (n,) or (n, length)."""

    inputs: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Dataset:
    """The splits of a dataset; `task` is a file of `tasks/`. `mean` and `std` are per channel, of pixels in [0, 1]; of
    tokens, which are the classes then, there are none. `floors`: (split) -> accuracies of guesses, by name."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    validation: Split | None = None  # held out of train by `supermask.data.splits`
    task: str = "classification"
    floors: Callable[[Split], Mapping[str, float]] | None = None
