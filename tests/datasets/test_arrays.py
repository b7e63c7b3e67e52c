"""The .npz files that people have: names, labels and numbers in their own way, and what is said of each."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supermask.datasets import npz
from supermask.errors import BadFileError
from supermask.types import Dataset

RNG = np.random.default_rng(0)
TRAIN, TEST = (RNG.integers(0, 256, (count, 6, 5, 3), dtype=np.uint8) for count in (6, 4))
TRAIN[0, 0, 0], TEST[0, 0, 0] = 255, 255
Y_TRAIN, Y_TEST = np.array([0, 2, 1, 1, 0, 2]), np.array([2, 0, 1, 1])


def load(path: Path, **arrays: Any) -> Dataset:
    np.savez(path / "a.npz", **arrays)
    return npz.load(path, str(path / "a.npz"))


def load_labels(path: Path, train: np.ndarray, test: np.ndarray) -> Dataset:
    return load(path, x_train=TRAIN, x_test=TEST, y_train=train, y_test=test)


def load_images(path: Path, train: np.ndarray, test: np.ndarray) -> Dataset:
    return load(path, x_train=train, x_test=test, y_train=Y_TRAIN, y_test=Y_TEST)


@pytest.mark.parametrize(
    "names",
    [
        "train_images train_labels test_images test_labels",
        "images_train labels_train images_test labels_test",
        "X_train Y_train X_test Y_test",
        "trainX trainY testX testY",
        "Xtrain ytrain Xtest ytest",
        "train_x train_y test_x test_y",
        "train_data train_labels test_data test_labels",
        "training_data training_target testing_data testing_target",
        "train-inputs train-targets test-inputs test-targets",
        "train/features train/label test/features test/label",
        "train_img train_label test_img test_label",
    ],
)
def test_names(tmp_path: Path, names: str, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = load(tmp_path, **dict(zip(names.split(), (TRAIN, Y_TRAIN, TEST, Y_TEST), strict=True)))
    np.testing.assert_array_equal(dataset.train.inputs, TRAIN)
    np.testing.assert_array_equal(dataset.test.inputs, TEST)
    assert dataset.train.targets.tolist() == Y_TRAIN.tolist()
    assert dataset.test.targets.tolist() == Y_TEST.tolist()
    assert capsys.readouterr().err == ""


def test_medmnist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its labels are a column of uint8, and it has a validation split."""
    column = Y_TEST[:, None].astype(np.uint8)
    arrays = {"val_images": TEST[::-1], "val_labels": column[::-1], "test_images": TEST, "test_labels": column}
    dataset = load(tmp_path, train_images=TRAIN, train_labels=Y_TRAIN[:, None].astype(np.uint8), **arrays)
    assert dataset.validation is not None
    np.testing.assert_array_equal(dataset.validation.inputs, TEST[::-1])
    assert dataset.validation.targets.tolist() == Y_TEST[::-1].tolist()
    assert capsys.readouterr().err == ""


def test_without_a_test_split_validation_is_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = load(tmp_path, x_train=TRAIN, y_train=Y_TRAIN, x_valid=TEST, y_valid=Y_TEST)
    np.testing.assert_array_equal(dataset.test.inputs, TEST)
    assert dataset.validation is None
    assert "a.npz has no test split: x_valid is the test split" in capsys.readouterr().err


def test_other_arrays_are_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load(tmp_path, x_train=TRAIN, y_train=Y_TRAIN, x_test=TEST, y_test=Y_TEST, ids=np.arange(3), meta=np.array([{}]))
    assert capsys.readouterr().err == f"note: {tmp_path / 'a.npz'}: left out 2 arrays: ids, meta\n"


def test_of_two_arrays_for_the_same_the_one_with_kerass_name_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = {"y_train": Y_TRAIN, "x_test": TEST, "y_test": Y_TEST, "train_data": 1 - TRAIN}
    np.testing.assert_array_equal(load(tmp_path, x_train=TRAIN, **arrays).train.inputs, TRAIN)
    assert "left out 1 array: train_data" in capsys.readouterr().err
    with pytest.raises(BadFileError, match="has train_data and train_images; keep one of them as the images of train"):
        load(tmp_path, train_images=TRAIN, **arrays)


def test_a_file_among_the_arrays_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load(tmp_path, x_train=TRAIN, y_train=Y_TRAIN, x_test=TEST, y_test=Y_TEST)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("x_val", b"no array")
    assert npz.load(tmp_path, str(tmp_path / "a.npz")).validation is None
    assert "left out 1 array: x_val" in capsys.readouterr().err


# --- labels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*"bBhHiIlLqQ", "e", "f", "d", ">f4", ">i2"])
@pytest.mark.parametrize("column", [False, True])
def test_whole_labels_of_any_type(tmp_path: Path, dtype: str, column: bool) -> None:
    train, test = Y_TRAIN.astype(dtype), Y_TEST.astype(dtype)
    dataset = load_labels(tmp_path, *((train[:, None], test[:, None]) if column else (train, test)))
    assert dataset.train.targets.tolist() == Y_TRAIN.tolist()
    assert dataset.test.targets.tolist() == Y_TEST.tolist()
    assert dataset.train.targets.dtype == np.int32
    assert dataset.classes == ("0", "1", "2")


def test_bool_labels(tmp_path: Path) -> None:
    dataset = load_labels(tmp_path, Y_TRAIN > 0, Y_TEST > 0)
    assert dataset.train.targets.tolist() == [0, 1, 1, 1, 0, 1]
    assert dataset.classes == ("0", "1")


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_one_hot_labels(tmp_path: Path, dtype: Any) -> None:
    """The classes are the columns, also those that no image has."""
    hot = np.eye(5, dtype=dtype)
    dataset = load_labels(tmp_path, hot[Y_TRAIN], hot[Y_TEST])
    assert dataset.train.targets.tolist() == Y_TRAIN.tolist()
    assert dataset.test.targets.tolist() == Y_TEST.tolist()
    assert dataset.classes == ("0", "1", "2", "3", "4")
    assert load_labels(tmp_path, hot[Y_TRAIN], Y_TEST).test.targets.tolist() == Y_TEST.tolist()


@pytest.mark.parametrize("kind", ["U", "S"])
@pytest.mark.parametrize("column", [False, True])
def test_names_of_classes(tmp_path: Path, kind: str, column: bool) -> None:
    names = np.array(["zebra", "ape", "émeu"])
    if kind == "S":
        names = np.char.encode(names, "utf-8")
    train, test = names[Y_TRAIN], names[Y_TEST]
    dataset = load_labels(tmp_path, *((train[:, None], test[:, None]) if column else (train, test)))
    assert dataset.classes == ("ape", "zebra", "émeu")
    assert [dataset.classes[label] for label in dataset.test.targets] == ["émeu", "zebra", "ape", "ape"]
    assert dataset.train.targets.tolist() == [1, 2, 0, 0, 1, 2]


# --- images ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int64])
def test_whole_numbers_of_any_type(tmp_path: Path, dtype: Any, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = load_images(tmp_path, TRAIN.astype(dtype), TEST.astype(dtype))
    np.testing.assert_array_equal(dataset.train.inputs, TRAIN)
    np.testing.assert_array_equal(dataset.test.inputs, TEST)
    assert capsys.readouterr().err == ""


def test_bool_images(tmp_path: Path) -> None:
    np.testing.assert_array_equal(load_images(tmp_path, TRAIN > 99, TEST > 99).test.inputs, (TEST > 99) * 255)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_from_0_to_255(tmp_path: Path, dtype: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fraction = np.where(TRAIN < 200, 0.25, 0)
    dataset = load_images(tmp_path, (TRAIN + fraction).astype(dtype), TEST.astype(dtype))
    np.testing.assert_array_equal(dataset.train.inputs, TRAIN)
    np.testing.assert_array_equal(dataset.test.inputs, TEST)
    assert "a.npz: x_train, x_test: floats from 0 to 255, rounded\n" in capsys.readouterr().err


def test_floats_from_0_to_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = load_images(tmp_path, TRAIN / 255, (TEST / 255).astype(np.float32))
    np.testing.assert_array_equal(dataset.train.inputs, TRAIN)
    np.testing.assert_array_equal(dataset.test.inputs, TEST)
    assert "a.npz: x_train, x_test: floats from 0 to 1, multiplied by 255 and rounded\n" in capsys.readouterr().err


def test_a_few_whole_levels_stay_what_they_are(tmp_path: Path) -> None:
    """As the digits of scikit-learn, floats from 0 to 16: they are on no known scale, but rounding takes nothing."""
    np.testing.assert_array_equal(load_images(tmp_path, TRAIN // 32.0, TEST // 32.0).train.inputs, TRAIN // 32)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_that_come_first(tmp_path: Path, channels: int, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = (np.resize(array, (len(array), channels, 6, 5)) for array in (TRAIN, TEST))
    dataset = load_images(tmp_path, train, test)
    np.testing.assert_array_equal(dataset.train.inputs, train.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(dataset.test.inputs, test.transpose(0, 2, 3, 1))
    assert "a.npz: the channels of x_train, x_test come first, and are moved to the end\n" in capsys.readouterr().err


@pytest.mark.parametrize("shape", [(3, 5, 4), (3, 5, 3), (4, 4, 1), (1, 5, 1), (6, 5, 7)])
def test_channels_that_may_come_last_do(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.zeros((4, *shape), np.uint8)
    dataset = load(tmp_path, x_train=images, y_train=Y_TEST, x_test=images, y_test=Y_TEST)
    assert dataset.train.inputs.shape == images.shape
