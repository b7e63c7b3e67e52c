"""Augmentation and normalisation of uint8 images inside the compiled epoch, and resizing on the host."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from supermask.data.splits import noun_of
from supermask.types import Array, Dataset

PAD = 4


def normalisation(kind: str, dataset: Dataset) -> Callable[[Array], Array]:
    """Return the function that turns uint8 images into the network's inputs; `kind` is one of NORMALISATIONS.

    Tokens are the network's inputs as they are.
    """
    if noun_of(dataset) != "images":
        return lambda tokens: tokens
    channels = dataset.train.inputs.shape[-1]
    return {
        "dataset": lambda x: normalise(x, dataset.mean, dataset.std),
        "unit": lambda x: normalise(x, (0.0,) * channels, (1.0,) * channels),
        "image": standardise,
    }[kind]


def normalise(images: Array, mean: tuple[float, ...], std: tuple[float, ...]) -> Array:
    """Subtract the mean and divide by the deviation of each channel: uint8 (batch, height, width, channels) -> float32.

    `mean` and `std` are those of pixels scaled to [0, 1].
    """
    scale = np.asarray([1 / (255 * s) for s in std], np.float32)
    shift = np.asarray([m / s for m, s in zip(mean, std, strict=True)], np.float32)
    return images.astype(jnp.float32) * scale - shift


def standardise(images: Array) -> Array:
    """Give each image zero mean and unit variance, as `tf.image.per_image_standardization` does: uint8 -> float32."""
    x = images.astype(jnp.float32) / 255
    axes = (1, 2, 3)
    least = 1 / np.sqrt(np.prod(images.shape[1:]), dtype=np.float32)  # an image of one colour has deviation 0
    return (x - x.mean(axes, keepdims=True)) / jnp.maximum(x.std(axes, keepdims=True), least)


def flip(key: Array, images: Array) -> Array:
    """Mirror half of the images, left to right."""
    mirror = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
    return jnp.where(mirror, images[:, :, ::-1], images)


def crop_flip(key: Array, images: Array) -> Array:
    """Pad each image with 4 black pixels on all sides, crop it randomly to its old size, mirror half of the images.

    The usual CIFAR augmentation (He et al. 2016, arXiv 1512.03385, section 4.2). Shapes do not change.
    """
    count, height, width, _ = images.shape
    at, coin = jax.random.split(key)
    offsets = jax.random.randint(at, (count, 2), 0, 2 * PAD + 1)
    mirror = jax.random.bernoulli(coin, 0.5, (count,))
    rows = jnp.arange(height) + offsets[:, :1]
    columns = jnp.arange(width)
    columns = jnp.where(mirror[:, None], columns[::-1], columns) + offsets[:, 1:]
    padded = jnp.pad(images, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)))
    return padded[jnp.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


FUNCTIONS = {"flip": flip, "crop-flip": crop_flip}
"""Augmentations of a batch that lies on the device."""


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Resize on the host, bilinearly: uint8 (n, height, width, channels) -> (n, size, size, channels)."""
    from PIL import Image

    def one(image: np.ndarray) -> np.ndarray:
        bands = [
            Image.fromarray(band).resize((size, size), Image.Resampling.BILINEAR) for band in np.moveaxis(image, -1, 0)
        ]
        return np.stack([np.asarray(band) for band in bands], axis=-1)

    return np.stack([one(image) for image in images])
