"""Problem: the model, task, data and optimiser of one config. Only this module turns names into objects."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from supermask import registry
from supermask.archs._build import build_model, check_outputs
from supermask.config import Config, SearchConfig
from supermask.data.feed import Pipeline, example_of
from supermask.data.source import Source
from supermask.data.splits import noun_of, split_dataset
from supermask.data.streaming import Streaming, cropped, plan
from supermask.engine import batching
from supermask.engine.batching import Batching
from supermask.engine.given import start_of
from supermask.engine.optim import make_optimizer
from supermask.engine.pipeline import pipeline_of
from supermask.engine.sharding import Sharding
from supermask.errors import UsageError, require
from supermask.nn.microbatches import in_microbatches
from supermask.nn.precision import at_precision
from supermask.nn.replace import suited
from supermask.resolve import check_dataset, make_arch, make_method
from supermask.runs.content import Content
from supermask.runs.given import Given
from supermask.runtime.devices import require_device
from supermask.tasks._training import in_training
from supermask.types import Array, Dataset, Method, Model, Shapes, Split, Task, Tree
from supermask.weights import inits
from supermask.weights.parameters import Parameters, chosen, is_closed_gate, masked_shapes

AnyConfig = TypeVar("AnyConfig", bound=Config)


@dataclass(frozen=True)
class Problem:
    """Everything that an experiment needs, with nothing left open.

    Attributes:
        config: resolved, with the number of devices filled in.
        method: the method of a search; None in weight training.
        parameters: roles of the model's parameters, and which of them are masked.
        pipeline: how training batches are made.
        sharding: sharding for one seed, evaluated; `side_by_side` gives that for training, of several seeds.
        content: fingerprints of the data and of the user's own code, see `runs.content`.
        given: weights that are frozen in place of random ones.
        searcher: what searches: `method`, or that inside the mask of a ticket.
        streaming: how data streams; None if it stays on the devices.
    """

    config: Config
    method: Method | None
    model: Model
    parameters: Parameters
    task: Task
    dataset: Dataset
    optimizer: optax.GradientTransformation
    pipeline: Pipeline
    sharding: Sharding
    content: Content = field(default_factory=dict)
    given: Given | None = None
    searcher: Method | None = None
    streaming: Streaming | None = None
    _initial: dict[int, tuple[Tree, Tree]] = field(default_factory=dict, repr=False)

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the parameters whose values a search trains beside the mask."""
        return tuple(name for name, found in self.parameters.items() if found.trained)

    @property
    def total_steps(self) -> int:
        """Number of steps in the whole training."""
        return self.pipeline.steps_per_epoch * int(self.config.epochs or 0)

    @cached_property
    def batching(self) -> Batching:
        """How training batches are cut; found when asked, since that takes seconds for deep networks."""
        example = example_of(self.dataset.train, self.pipeline.batch_size // self.sharding.num_shards)
        return batching.find(example, self.pipeline.batch_size, self.model, self.config)

    def side_by_side(self, seeds: int | None = None) -> Sharding:
        """Return the sharding to train `seeds` seeds, or as many as suit the config and the devices."""
        if seeds is None:
            seeds = batching.seeds_side_by_side(self.config, self.model, self.sharding)
        return self.to_train(replace(self.sharding, seeds=seeds))

    def to_train(self, sharding: Sharding) -> Sharding:
        """Return a sharding as a pass in training mode needs it, where batch statistics may be of all shards."""
        return replace(
            sharding, whole=bool(self.model.changes) and not self.model.ghost and not self.batching.in_stages
        )

    @property
    def training_task(self) -> Task:
        """The task as training has it, see `in_training`."""
        return in_training(self.task, self.config.label_smoothing)

    @property
    def moving(self) -> frozenset[str]:
        """Names of the running statistics that every ghost batch moves by itself; none without ghost batches."""
        of_norms = (name for name in self.model.changes if self.model.layers.get(name) == "BatchStat")
        return frozenset(of_norms if self.model.ghost else ())

    def training_model(self, sharding: Sharding) -> Model:
        """The model for a training batch of which each device has a shard; its statistics are of all or of ghosts."""
        if not self.batching.in_stages:
            return self.model
        shards = sharding.num_shards if sharding.axis else 1
        count = self.batching.num_microbatches
        return replace(self.model, apply=in_microbatches(self.model.apply, count, sharding.axis, shards))

    def weights(self, seed: int) -> Tree:
        """Draw the random weights of one seed; those that are not drawn have the network's own values."""
        if self.given is not None:
            return self.given.weights | self.initial(seed)[0]
        return inits.of_config(self.config, seed, self.parameters, self.initial(seed)[0])

    def initial(self, seed: int) -> tuple[Tree, Tree]:
        """Return the values for one seed, given or the network's own, of parameters that are not drawn and of state."""
        if seed not in self._initial:
            kept = tuple(name for name, found in self.parameters.items() if not found.drawn)
            own, state = self.model.initial(seed, kept) if self.model.initial else ({}, _unnamed(self.model.state))
            if self.given is not None:
                own, state = {name: self.given.weights[name] for name in kept}, state | self.given.state
            self._initial[seed] = (
                {name: self._value(name, np.asarray(array, np.float32)) for name, array in own.items()},
                {name: as_numpy(array) for name, array in state.items()},
            )
        return self._initial[seed]

    def _value(self, name: str, array: np.ndarray) -> np.ndarray:
        if self.parameters[name].role == "unused":
            return np.zeros_like(array)  # so that a ticket need not hold it
        opened = getattr(self.config, "gates", "own") == "one" and is_closed_gate(self.parameters[name], array)
        return np.ones_like(array) if opened else array


def on_this_machine(config: AnyConfig) -> AnyConfig:
    """Fill in what depends on the machine, the number of devices, in a resolved config.

    Raises:
        UsageError: more devices than there are, a precision that the device lacks, an unknown init; no JAX.
    """
    if config.init is not None:  # weights are drawn
        require("init", config.init, inits.INITS)
    require_device("auto")
    if config.precision == "tf32" and jax.default_backend() != "gpu":
        raise UsageError("precision tf32 is one of NVIDIA GPUs, and JAX sees none; take f32 or bf16")
    return config.replace(devices=batching.devices(config))


def load_problem(config: Config, data: Path | Source | None = None) -> Problem:
    """Build the problem of a resolved config; load its dataset, downloading it if it is missing.

    Args:
        data: folder of datasets, or where the dataset is read from.

    Raises: what `read_dataset`, `split_dataset` and `build` raise.
    """
    source = data if isinstance(data, Source) else Source(config, data)
    return build(config, split_dataset(config, source.take()), source.content)


def outline(config: Config, data_dir: Path | None = None) -> Problem:
    """Build the problem of a resolved config on blank images if the dataset's shape is known, so nothing is fetched."""
    own = registry.is_own("datasets", config.dataset)
    source: Any = None if own else registry.load("datasets", config.dataset).load
    if not hasattr(source, "train"):
        return load_problem(config, data_dir)
    size = (config.image_size,) * 2 if config.image_size else source.train[1:3]
    count = source.train[0]  # as many as there are, without the memory for them
    images = np.broadcast_to(np.uint8(0), (count, *size, source.train[3]))
    blank = Split(images, np.broadcast_to(np.int32(0), count))
    return build(config, Dataset(blank, blank, source.classes, source.mean, source.std, blank))


def build(config: Config, dataset: Dataset, content: Content | None = None) -> Problem:
    """Build the problem of a config, see `on_this_machine`, on a given dataset.

    Raises:
        UsageError: the network does not fit the data or has nothing to mask, or the batch or the ticket do not fit.
        BadFileError: given weights, or that ticket, cannot be read or do not fit.
    """
    check_dataset(config, "images" if noun_of(dataset) == "images" else "tokens")
    dataset = cropped(dataset, config.augment)
    shape, task = dataset.train.inputs.shape[1:], registry.load("tasks", dataset.task)()
    model = _model(config, dataset, task)
    parameters = dict(model.parameters)
    if isinstance(config, SearchConfig):
        parameters = chosen(parameters, maskable=config.maskable, unmasked=config.unmasked, train=config.train)
    batch = min(int(config.batch_size or 1), len(dataset.train))
    method = make_method(config) if isinstance(config, SearchConfig) else None
    if method is not None:
        if not masked_shapes(parameters):
            raise UsageError(f"{config.arch} has no kernel, nor anything else that --maskable names: nothing to mask")
        method.check(masked_shapes(parameters))
    pipeline = pipeline_of(config, dataset, method, batch)
    shards = batching.num_shards(batch, model, config)
    given, searcher = start_of(config, method, replace(model, parameters=parameters), shape)
    model = at_precision(suited(model, config.conv), config.precision)
    problem = Problem(
        config=config,
        method=method,
        model=model,
        parameters=parameters,
        task=task,
        dataset=dataset,
        optimizer=make_optimizer(
            config, pipeline.steps_per_epoch, method.turns(pipeline.steps_per_epoch) if method else (1, 1)
        ),
        pipeline=pipeline,
        sharding=Sharding(shards),
        content=content or {},
        given=given,
        searcher=searcher,
        streaming=plan(dataset, batch),
    )
    _ = problem.training_task  # refused here rather than by the first step
    if config.micro_batch is not None:
        _ = problem.batching
    return problem


def _model(config: Config, dataset: Dataset, task: Task) -> Model:
    arch, options = make_arch(config)
    example = example_of(dataset.train)
    classes, activation = len(dataset.classes), getattr(jax.nn, config.activation or "relu")
    model = build_model(arch, options, example, classes, width=config.width, activation=activation)
    check_outputs(model, config.arch, example, task.output_shape(example.shape, classes))
    return model


def as_numpy(array: Array) -> np.ndarray:
    """An array on the host, float32 if it holds floats."""
    return np.asarray(array, np.float32 if jnp.issubdtype(array.dtype, jnp.floating) else None)


def _unnamed(state: Shapes) -> Tree:
    """Initial values of state that the network says nothing of: 1 for variances, 0 for everything else."""
    return {name: np.full(shape, float(name.endswith("var")), np.float32) for name, shape in state.items()}
