"""Mirrored images."""

import jax
import numpy as np

from supermask.data.augment import flip


def test_half_of_the_images_are_mirrored_and_the_others_left_alone():
    images = np.random.default_rng(0).integers(0, 256, (1000, 3, 5, 2), dtype=np.uint8)
    found = np.asarray(flip(jax.random.key(0), images))
    assert found.dtype == np.uint8
    mirrored = (found == images[:, :, ::-1]).all((1, 2, 3))
    assert (mirrored | (found == images).all((1, 2, 3))).all()
    assert abs(mirrored.mean() - 0.5) < 0.06
