"""MedMNIST in .npz files of the official layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supermask.datasets import medmnist
from supermask.errors import BadFileError, UsageError

RNG = np.random.default_rng(0)


def arrays(shape: tuple[int, ...] = (28, 28), width: int = 1) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for part, count in (("train", 6), ("val", 3), ("test", 4)):
        found[f"{part}_images"] = RNG.integers(0, 256, (count, *shape), dtype=np.uint8)
        found[f"{part}_labels"] = (np.arange(count * width).reshape(count, width) % 3).astype(np.uint8)
    return found


def write(path: Path, content: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    path.parent.mkdir(parents=True, exist_ok=True)
    fields: Any = content
    np.savez_compressed(path, **fields)
    return content


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3), (64, 64, 3)])
@pytest.mark.parametrize("place", ["data", "data/medmnist", "home/.medmnist"])
def test_the_official_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, shape: tuple[int, ...]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    content = write(tmp_path / place / "bloodmnist.npz", arrays(shape))
    dataset = medmnist.load(tmp_path / "data", "bloodmnist")
    for part, split in (("train", dataset.train), ("val", dataset.validation), ("test", dataset.test)):
        assert split is not None
        np.testing.assert_array_equal(split.inputs.reshape(content[f"{part}_images"].shape), content[f"{part}_images"])
        np.testing.assert_array_equal(split.targets, content[f"{part}_labels"][:, 0])
        assert split.targets.dtype == np.int32
    assert dataset.train.inputs.shape[1:] == (*shape[:2], shape[2] if len(shape) == 3 else 1)
    assert dataset.classes == ("0", "1", "2")


def broken() -> list[tuple[dict[str, np.ndarray], str]]:
    lacking, wrong, large = arrays(), arrays(), arrays()
    del lacking["val_labels"]
    wrong["test_labels"] = np.full((4, 1), 3, np.uint8)
    large["val_images"] = large["val_images"][:2]
    return [
        (arrays((28, 28, 28)), r"train_images has the shape \(6, 28, 28, 28\), images of three dimensions"),
        (arrays((28, 28, 28, 1)), "images of three dimensions"),
        (arrays(width=14), "train_labels has 14 labels for each image; only sets with one label per image are read"),
        (lacking, r"lacks val_labels \(it has .*\); files of medmnist have train_images"),
        (wrong, "the test split has the label 3; with 3 classes, labels go from 0 to 2"),
        (large, "val_images has 2 images and val_labels 3 labels"),
    ]


@pytest.mark.parametrize(("content", "words"), broken())
def test_other_layouts_are_named(tmp_path: Path, content: dict[str, np.ndarray], words: str) -> None:
    path = tmp_path / "somemnist.npz"
    write(path, content)
    with pytest.raises(BadFileError, match=f"{path}.*{words}"):
        medmnist.load(tmp_path, "somemnist")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "somemnist.npz"
    write(path, arrays())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadFileError, match=f"{path} is not an .npz file that can be read"):
        medmnist.load(tmp_path, "somemnist")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=r"medmnist:pathmnist is not in .*medmnist.com and put pathmnist.npz into"):
        medmnist.load(tmp_path, "pathmnist")
    for argument in ("", "a/b"):
        with pytest.raises(UsageError, match="medmnist:NAME"):
            medmnist.load(tmp_path, argument)
