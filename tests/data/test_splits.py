"""Which split an experiment gets: the dataset's own, or one that is held out; all of them resized."""

from pathlib import Path

import numpy as np
import pytest

from supermask import SearchConfig
from supermask.data import augment
from supermask.data.splits import load_dataset


def write(path: Path, **sizes: int) -> str:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in sizes.items():
        arrays[f"x_{part}"] = rng.integers(0, 256, (count, 6, 5, 3), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(count) % 2
    np.savez(path, **arrays)
    return f"npz:{path}"


def test_validation_is_held_out_of_train(tmp_path, capsys):
    dataset = load_dataset(SearchConfig(dataset=write(tmp_path / "a.npz", train=20, test=4), validation=0.2))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (16, 4, 4)
    assert capsys.readouterr().err == ""


def test_nothing_is_held_out_if_nothing_is_asked_for(tmp_path, capsys):
    dataset = load_dataset(SearchConfig(dataset=write(tmp_path / "a.npz", train=20, test=4), validation=0.0))
    with np.load(tmp_path / "a.npz") as arrays:
        for split in (dataset.train, dataset.validation):
            np.testing.assert_array_equal(split.inputs, arrays["x_train"])
    assert (
        "validation 0 holds nothing out: validation accuracy is that of all 20 training images"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("size", [None, 4])
def test_the_datasets_own_validation_split_is_used(tmp_path, capsys, size):
    name = write(tmp_path / "a.npz", train=20, val=6, test=4)
    dataset = load_dataset(SearchConfig(dataset=name, image_size=size))
    assert capsys.readouterr().err == ""
    with np.load(tmp_path / "a.npz") as arrays:
        for part, split in (("train", dataset.train), ("val", dataset.validation), ("test", dataset.test)):
            images = arrays[f"x_{part}"] if size is None else augment.resize(arrays[f"x_{part}"], size)
            np.testing.assert_array_equal(split.inputs, images)
            np.testing.assert_array_equal(split.targets, arrays[f"y_{part}"])


def test_a_share_for_validation_that_is_not_used_is_said(tmp_path, capsys):
    name = write(tmp_path / "a.npz", train=20, val=6, test=4)
    load_dataset(SearchConfig(dataset=name, validation=0.2))
    assert f"{name} has its own validation split, of 6 images; validation 0.2 is not used" in capsys.readouterr().err


def test_a_folder_of_images_of_two_sizes_is_resized(tmp_path):
    from PIL import Image

    for part in ("train", "test"):
        for number, size in enumerate([(6, 5), (9, 9), (6, 5)]):
            path = tmp_path / part / str(number % 2) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", size, 50 * number).save(path)
    dataset = load_dataset(SearchConfig(dataset=f"folder:{tmp_path}", image_size=7, validation=0.3))
    assert dataset.train.inputs.shape == (2, 7, 7, 1)
    assert dataset.test.inputs[:, 0, 0, 0].tolist() == [0, 100, 50]
