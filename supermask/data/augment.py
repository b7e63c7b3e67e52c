"""What happens to a batch of uint8 images inside the compiled epoch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from supermask.types import Array

PAD = 4


def normalise(images: Array, mean: tuple[float, ...], std: tuple[float, ...]) -> Array:
    """uint8 (batch, height, width, channels) -> float32 of zero mean and unit variance per channel."""
    scale = np.asarray([1 / (255 * s) for s in std], np.float32)
    shift = np.asarray([m / s for m, s in zip(mean, std, strict=True)], np.float32)
    return images.astype(jnp.float32) * scale - shift


def standardise(images: Array) -> Array:
    """uint8 -> float32, zero mean and unit variance in each image, as `tf.image.per_image_standardization`."""
    x = images.astype(jnp.float32) / 255
    axes = (1, 2, 3)
    least = 1 / np.sqrt(np.prod(images.shape[1:]), dtype=np.float32)  # an image of one colour has no deviation
    return (x - x.mean(axes, keepdims=True)) / jnp.maximum(x.std(axes, keepdims=True), least)


def crop_flip(key: Array, images: Array) -> Array:
    """Each image on its own: 4 pixels of black all around, a random crop of the old size, a coin-flip mirror.

    The usual CIFAR augmentation (He et al. 2016, arXiv 1512.03385, section 4.2). Shapes are kept.
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


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 (n, height, width, channels) -> (n, size, size, channels), bilinear, on the host."""
    from PIL import Image

    def one(image: np.ndarray) -> np.ndarray:
        bands = [
            Image.fromarray(band).resize((size, size), Image.Resampling.BILINEAR) for band in np.moveaxis(image, -1, 0)
        ]
        return np.stack([np.asarray(band) for band in bands], axis=-1)

    return np.stack([one(image) for image in images])
