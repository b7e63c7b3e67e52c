"""Problem: the model, task, data and optimiser of one config. Only this module turns names into objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from supermask import registry
from supermask.archs._build import build_model, check_outputs
from supermask.config import Config, SearchConfig
from supermask.data import augment
from supermask.data.feed import Pipeline
from supermask.data.splits import load_dataset
from supermask.engine import batching
from supermask.engine.optim import make_optimizer
from supermask.engine.sharding import Sharding
from supermask.errors import UsageError, require
from supermask.nn.precision import at_precision
from supermask.nn.replace import with_convolution
from supermask.resolve import make_arch, make_method
from supermask.types import Array, Dataset, Method, Model, Shapes, Task, Tree
from supermask.weights import inits
from supermask.weights.shapes import maskable

AnyConfig = TypeVar("AnyConfig", bound=Config)


@dataclass(frozen=True)
class Problem:
    """Everything that an experiment needs, with nothing left open.

    Attributes:
        config: resolved, with the number of devices filled in.
        method: the method of a search; None in weight training.
        pipeline: how training batches are made.
        num_microbatches: number of micro-batches that a device's shard of a batch is processed in.
        sharding: sharding for one seed; `side_by_side` gives that for several.
    """

    config: Config
    method: Method | None
    model: Model
    task: Task
    dataset: Dataset
    optimizer: optax.GradientTransformation
    pipeline: Pipeline
    num_microbatches: int
    sharding: Sharding

    @property
    def total_steps(self) -> int:
        """Number of steps in the whole training."""
        return self.pipeline.steps_per_epoch * int(self.config.epochs or 0)

    def side_by_side(self, seeds: int | None = None) -> Sharding:
        """Return the sharding with `seeds` seeds side by side, or as many as suit the config and the devices."""
        if seeds is None:
            seeds = batching.seeds_side_by_side(self.config, self.model, self.sharding)
        return replace(self.sharding, seeds=seeds)

    def weights(self, seed: int) -> Tree:
        """Draw the random weights of one seed."""
        return inits.of_config(self.config, seed, self.model.weights)


def on_this_machine(config: AnyConfig) -> AnyConfig:
    """Fill in what depends on the machine, the number of devices, in a resolved config.

    Raises:
        UsageError: more devices than there are, a precision that the device does not have, an unknown init.
    """
    require("init", config.init, inits.INITS)
    if config.precision == "tf32" and jax.default_backend() != "gpu":
        raise UsageError("precision tf32 is one of NVIDIA GPUs, and JAX sees none; take f32 or bf16")
    return config.replace(devices=batching.devices(config))


def load_problem(config: Config, data_dir: Path | None = None) -> Problem:
    """Build the problem of a resolved config; load its dataset, downloading it if it is missing.

    Raises:
        UsageError, BadFileError, SupermaskError: as raised by `load_dataset` and `build`.
    """
    return build(config, load_dataset(config, data_dir))


def build(config: Config, dataset: Dataset) -> Problem:
    """Build the problem of a config, see `on_this_machine`, on a given dataset.

    Raises:
        UsageError: the network has nothing to mask, or the batch cannot be cut as asked.
    """
    shape, task = dataset.train.images.shape[1:], registry.load("tasks", dataset.task)()
    model = _model(config, dataset, task)
    batch = min(int(config.batch_size or 1), len(dataset.train))
    method = make_method(config) if isinstance(config, SearchConfig) else None
    if method is not None:
        if not maskable(model.weights):
            raise UsageError(f"{config.arch} has no parameter of two or more dimensions, so there is nothing to mask")
        method.check(maskable(model.weights))
    pipeline = _pipeline(config, dataset, method, batch)
    shards = batching.num_shards(batch, model, config)
    return Problem(
        config=config,
        method=method,
        model=at_precision(with_convolution(model, config.conv), config.precision),
        task=task,
        dataset=dataset,
        optimizer=make_optimizer(config, pipeline.steps_per_epoch),
        pipeline=pipeline,
        num_microbatches=batching.num_microbatches(batch // shards, shape, model, config),
        sharding=Sharding(shards, whole=bool(model.state)),
    )


def _model(config: Config, dataset: Dataset, task: Task) -> Model:
    arch, options = make_arch(config)
    example = jax.ShapeDtypeStruct((2, *dataset.train.images.shape[1:]), jnp.float32)
    classes, activation = len(dataset.classes), getattr(jax.nn, config.activation or "relu")
    model = build_model(arch, options, example, classes, width=config.width, activation=activation)
    check_outputs(model, config.arch, example, task.output_shape(example.shape, classes))
    return model


def _pipeline(config: Config, dataset: Dataset, method: Method | None, batch: int) -> Pipeline:
    count = len(dataset.train)
    return Pipeline(
        batch_size=batch,
        steps_per_epoch=method.steps_per_epoch(count, batch) if method else count // batch,
        order=partial(_order, method, count, batch),
        augment=augment.crop_flip if config.augment == "crop-flip" else None,
        normalise=_normalisation(config, dataset),
    )


def _order(method: Method | None, count: int, batch: int, key: Array, epoch: Array) -> Array:
    """Return the order of the training examples in an epoch, int32: the method's own, or a new random permutation."""
    own = method.order(key, epoch, count, batch) if method else None
    return jax.random.permutation(jax.random.fold_in(key, epoch), count) if own is None else own


def _normalisation(config: Config, dataset: Dataset) -> Callable[[Array], Array]:
    """Return the function that turns uint8 images into the network's inputs."""
    channels = dataset.train.images.shape[-1]
    return {
        "dataset": lambda x: augment.normalise(x, dataset.mean, dataset.std),
        "unit": lambda x: augment.normalise(x, (0.0,) * channels, (1.0,) * channels),
        "image": augment.standardise,
    }[config.normalise or "dataset"]


def initial_state(shapes: Shapes) -> Tree:
    """Return initial batch statistics: 1 for variances, 0 for everything else."""
    return {name: np.full(shape, float(name.endswith("var")), np.float32) for name, shape in shapes.items()}
