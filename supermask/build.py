"""SearchConfig -> method, model, data, optimiser: the one place where names become objects."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
import optax

from supermask import cuts, images, inits, registry
from supermask.archs._adapt import adapt
from supermask.config import SearchConfig
from supermask.conv import convolution
from supermask.defaults import filled, make_method
from supermask.errors import UsageError, require
from supermask.layout import Layout
from supermask.optimisers import make_optimiser
from supermask.precision import at_precision
from supermask.types import Array, Dataset, Method, Model, Shapes, Split, Tree


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
    return found.replace(devices=cuts.devices(found), options=options)


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
    if not inits.maskable(model.weights):
        raise UsageError(f"{config.arch} has no parameter of two or more dimensions, so there is nothing to mask")
    batch = min(int(config.batch_size or 1), len(dataset.train))
    method = make_method(config)
    method.check(inits.maskable(model.weights))
    steps = method.steps_per_epoch(len(dataset.train), batch)
    shares = cuts.shares(batch, model, config)
    return Parts(
        config=config,
        method=method,
        model=at_precision(model, config.precision),
        dataset=dataset,
        optimiser=make_optimiser(config, steps),
        prepare=_normalisation(config, dataset),
        augment=images.crop_flip if config.augment == "crop-flip" else None,
        batch_size=batch,
        pieces=cuts.micro_batches(batch // shares, shape, model, config),
        steps_per_epoch=steps,
        layout=Layout(shares, whole=bool(model.stats)),
    )


def load_dataset(config: SearchConfig, data_dir: Path | None = None) -> Dataset:
    """The dataset, resized if asked, with its validation split held out of train.

    The split depends on the number of images alone, not on the seed, so that accuracies of different seeds
    are of the same images.
    """
    module = registry.load("datasets", config.dataset)
    argument = config.dataset.partition(":")[2] if hasattr(module, "load") else ""
    dataset = getattr(module, "load", module)(data_dir or default_data_dir(), argument)
    train, test = dataset.train, dataset.test
    if config.image_size is not None:
        train, test = (Split(images.resize(s.images, config.image_size), s.labels) for s in (train, test))
    if dataset.validation is not None:
        return replace(dataset, train=train, test=test)
    count = len(train)
    held_out = round(config.validation * count)
    if not 0 < held_out < count:
        raise UsageError(
            f"validation {config.validation} holds out {held_out} of {count} training images; both parts need one"
        )
    order = np.argsort(np.random.Philox(key=count).random_raw(count), kind="stable")
    chosen, rest = np.sort(order[:held_out]), np.sort(order[held_out:])
    return replace(dataset, train=_part(train, rest), validation=_part(train, chosen), test=test)


def _part(split: Split, index: np.ndarray) -> Split:
    """Some examples, the images at an address that is a multiple of 64: from there, CPU devices read without a copy."""
    shape = (len(index), *split.images.shape[1:])
    size = math.prod(shape)
    buffer = np.empty(size + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    images = buffer[start : start + size].reshape(shape)
    np.take(split.images, index, axis=0, out=images, mode="clip")  # any other mode makes a copy first
    images.flags.writeable = False
    return Split(images, split.labels[index])


def default_data_dir() -> Path:
    """SUPERMASK_DATA_DIR, else a folder in the user's cache."""
    import platformdirs

    named = os.environ.get("SUPERMASK_DATA_DIR")
    return Path(named) if named else Path(platformdirs.user_cache_dir("supermask")) / "data"


def _normalisation(config: SearchConfig, dataset: Dataset) -> Callable[[Array], Array]:
    """From uint8 images to what the network sees."""
    channels = dataset.train.images.shape[-1]
    return {
        "dataset": lambda x: images.normalise(x, dataset.mean, dataset.std),
        "unit": lambda x: images.normalise(x, (0.0,) * channels, (1.0,) * channels),
        "image": images.standardise,
    }[config.normalise or "dataset"]


def initial_stats(shapes: Shapes) -> Tree:
    """Batch statistics to start from: variance 1, everything else 0."""
    return {name: np.full(shape, float(name.endswith("var")), np.float32) for name, shape in shapes.items()}
