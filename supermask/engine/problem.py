"""SearchConfig -> method, model, data, optimiser: the one place where names become objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
import optax

from supermask import registry
from supermask.archs._adapt import adapt
from supermask.config import SearchConfig
from supermask.data import augment
from supermask.data.splits import load_dataset
from supermask.engine import batching
from supermask.engine.optim import make_optimiser
from supermask.engine.sharding import Layout
from supermask.errors import UsageError, require
from supermask.nn.conv import convolution
from supermask.nn.precision import at_precision
from supermask.resolve import filled, make_method
from supermask.types import Array, Dataset, Method, Model, Shapes, Tree
from supermask.weights import inits
from supermask.weights.shapes import maskable


@dataclass(frozen=True)
class Parts:
    """Everything that a search or an evaluation runs on; `config` has nothing left to a recipe."""

    config: SearchConfig
    method: Method
    model: Model
    dataset: Dataset
    optimiser: optax.GradientTransformation
    prepare: Callable[[Array], Array]
    augment: Callable[[Array, Array], Array] | None
    batch_size: int
    pieces: int
    steps_per_epoch: int
    layout: Layout

    @property
    def total_steps(self) -> int:
        """Steps of the whole search."""
        return self.steps_per_epoch * int(self.config.epochs or 0)

    def lay(self, seeds: int) -> Layout:
        """The layout with `seeds` searches side by side."""
        return replace(self.layout, seeds=seeds)

    def weights(self, seed: int) -> Tree:
        """The frozen weights of one seed."""
        return inits.of_config(self.config, seed, self.model.weights)


def resolve(config: SearchConfig) -> SearchConfig:
    """The config with all that its method, its dataset and this machine decide; see `defaults.filled`.

    Raises:
        UsageError: an unknown name, an option that the method cannot take, more devices than there are.
    """
    found = filled(config)
    method = make_method(found)
    registry.load("datasets", found.dataset)
    require("init", found.init, inits.INITS)
    if found.precision == "tf32" and jax.default_backend() != "gpu":
        raise UsageError("precision tf32 is one of NVIDIA GPUs, and JAX sees none; take f32 or bf16")
    options = {key: getattr(method, key) for key in found.options}  # as the method has settled them
    return found.replace(devices=batching.devices(found), options=options)


def build(config: SearchConfig, data_dir: Path | None = None) -> Parts:
    """All parts of a search; reads the dataset, fetching it if it is missing.

    Raises:
        UsageError, BadFileError, SupermaskError: see the parts.
    """
    config = resolve(config)
    return assemble(config, load_dataset(config, data_dir))


def assemble(config: SearchConfig, dataset: Dataset) -> Parts:
    """All parts of a search of a resolved config on images that are given.

    Raises:
        UsageError: the network has nothing to mask, or the batch cannot be cut as asked.
    """
    shape = dataset.train.images.shape[1:]
    model = adapt(
        registry.load("archs", config.arch),
        convolution(config.conv),
        image_shape=shape,
        classes=len(dataset.classes),
        width=config.width,
        depth=registry.depth_of("archs", config.arch),
        activation=getattr(jax.nn, config.activation or "relu"),
    )
    if not maskable(model.weights):
        raise UsageError(f"{config.arch} has no parameter of two or more dimensions, so there is nothing to mask")
    batch = min(int(config.batch_size or 1), len(dataset.train))
    method = make_method(config)
    method.check(maskable(model.weights))
    steps = method.steps_per_epoch(len(dataset.train), batch)
    shares = batching.shares(batch, model, config)
    return Parts(
        config=config,
        method=method,
        model=at_precision(model, config.precision),
        dataset=dataset,
        optimiser=make_optimiser(config, steps),
        prepare=_normalisation(config, dataset),
        augment=augment.crop_flip if config.augment == "crop-flip" else None,
        batch_size=batch,
        pieces=batching.micro_batches(batch // shares, shape, model, config),
        steps_per_epoch=steps,
        layout=Layout(shares, whole=bool(model.stats)),
    )


def _normalisation(config: SearchConfig, dataset: Dataset) -> Callable[[Array], Array]:
    """From uint8 images to what the network sees."""
    channels = dataset.train.images.shape[-1]
    return {
        "dataset": lambda x: augment.normalise(x, dataset.mean, dataset.std),
        "unit": lambda x: augment.normalise(x, (0.0,) * channels, (1.0,) * channels),
        "image": augment.standardise,
    }[config.normalise or "dataset"]


def initial_stats(shapes: Shapes) -> Tree:
    """Batch statistics to start from: variance 1, everything else 0."""
    return {name: np.full(shape, float(name.endswith("var")), np.float32) for name, shape in shapes.items()}
