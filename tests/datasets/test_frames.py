"""Random crops for training and the middle of the image for evaluation."""

import itertools
import math

import numpy as np
import pytest
from PIL import Image

from supermask.datasets._frames import AREA, RATIO, View, framed, random_box
from supermask.datasets._lazy import Crops

PHOTO = Image.fromarray((np.indices((60, 90)).sum(0)[..., None] * [1, 0.5, 0.2]).astype(np.uint8))
CROPS = View((32, 32), 3, crops=True)


def boxes(size, count=2000):
    rng = np.random.default_rng(0)
    return np.array([random_box(size, iter(rng.random(32).tolist())) for _ in range(count)])


@pytest.mark.parametrize("size", [(90, 60), (500, 375), (64, 64)])
def test_random_crops_are_within_the_image_and_the_published_bounds(size):
    found = boxes(size)
    assert (found[:, :2] >= 0).all()
    assert (found[:, 2:] <= size).all()
    widths, heights = (found[:, 2:] - found[:, :2]).T
    rounding = 1 / np.minimum(widths, heights)  # half a pixel more or less on both sides
    ratios, areas = widths / heights, widths * heights / math.prod(size)
    assert (ratios >= RATIO[0] * (1 - rounding)).all()
    assert (ratios <= RATIO[1] * (1 + rounding)).all()
    assert (areas >= AREA[0] * (1 - 2 * rounding)).all()
    assert (areas <= AREA[1]).all()
    largest = min(1, RATIO[1] / (size[0] / size[1]))  # of these ratios, in this image
    assert areas.min() < 0.13
    assert areas.max() > 0.95 * largest
    assert ratios.min() < 0.78 < 1.28 < ratios.max()
    # All places are as likely: the free room is on both sides alike.
    free = size[0] - widths
    assert np.mean(found[:, 0][free > 0] / free[free > 0]) == pytest.approx(0.5, abs=0.03)


def test_an_image_that_no_ratio_fits_is_cut_to_the_nearest_one_in_the_middle():
    always = itertools.repeat(0.999)  # all of the area, at 4:3
    assert random_box((1000, 10), always) == pytest.approx((500 - 20 / 3, 0, 500 + 20 / 3, 10))
    assert random_box((10, 1000), always) == pytest.approx((0, 500 - 20 / 3, 10, 500 + 20 / 3))


def test_the_same_words_name_the_same_crop_and_others_another():
    one, same, other = (np.asarray(framed(PHOTO, CROPS, noise)) for noise in ("a/1/7", "a/1/7", "a/1/8"))
    assert one.shape == (32, 32, 3)
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_half_of_the_crops_are_mirrored():
    """The photo's brightness rises to the right, so a mirrored crop falls."""
    rises = [np.asarray(framed(PHOTO, CROPS, str(i)).convert("L"), int) for i in range(200)]
    assert np.mean([image[:, -1].sum() > image[:, 0].sum() for image in rises]) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (70, 70)])
def test_evaluation_sees_the_middle_of_the_image_resized_to_a_little_more(size):
    """28 of 32 pixels, as 224 of 256 are published."""
    photo, scale = PHOTO.resize(size), 32 / min(size)
    whole = photo.resize((round(size[0] * scale), round(size[1] * scale)), Image.Resampling.BILINEAR)
    left, upper = (whole.width - 28) // 2, (whole.height - 28) // 2
    expected = np.asarray(whole.crop((left, upper, left + 28, upper + 28)), int)
    found = np.asarray(framed(photo, View((28, 28), 3, crops=True)), int)
    assert np.abs(found - expected).max() <= 3  # half a pixel of a slope of one to three per pixel


def test_crops_of_arrays_are_those_of_files_for_any_number_of_channels():
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 2), dtype=np.uint8)
    crops = Crops(images)
    assert crops.shape == images.shape
    found = crops.read(np.array([2, 0]), "key")
    for row, i in enumerate((2, 0)):
        for channel in range(2):
            band = framed(Image.fromarray(images[i, ..., channel]), crops.view, f"key/{i}")
            np.testing.assert_array_equal(found[row, ..., channel], np.asarray(band))
    np.testing.assert_array_equal(crops[[2, 0]], crops.take(np.array([2, 0]))[:])
    assert (crops.read(np.array([2]), "other") != found[:1]).any()
