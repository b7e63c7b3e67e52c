"""Every dataset format, read from small files made here, and everything that can be wrong with one."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import gzip
import hashlib
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from loopback import Server, remote

from supermask import registry
from supermask.config.inputs import inputs_of
from supermask.datasets import (
    cifar10,
    cifar100,
    digits,
    fashion_mnist,
    folder,
    hf,
    imagenet,
    kmnist,
    mnist,
    npz,
    stl10,
    svhn,
    tiny_imagenet,
)
from supermask.datasets._fetch import fetch
from supermask.datasets._idx import read_idx
from supermask.datasets._pickle import load_dict
from supermask.datasets._stats import mean_std
from supermask.datasets._tar import read_members
from supermask.errors import BadFileError, SupermaskError, UsageError
from supermask.types import Dataset, Split

RNG = np.random.default_rng(0)
IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERMASK_OFFLINE", "1")


def fails(call: Callable[[], object], *words: object, error: type[SupermaskError] = BadFileError) -> str:
    """The message of the error, which is one line and has all the words."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message
    return message


# --- makers ---------------------------------------------------------------------------------------------------------


def images(count: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, *shape), dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    return (
        bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    )


def idx_parts() -> dict[str, np.ndarray]:
    arrays = (images(6, 4, 5), np.arange(6), images(3, 4, 5), np.arange(3))
    return dict(zip(IDX_NAMES, arrays, strict=True))


def write_idx(at: Path, parts: dict[str, np.ndarray] | None = None, zipped: bool = True) -> dict[str, np.ndarray]:
    at.mkdir(parents=True, exist_ok=True)
    parts = idx_parts() if parts is None else parts
    for name, array in parts.items():
        data = gzip.compress(idx(array)) if zipped else idx(array)
        (at / (name + ".gz" * zipped)).write_bytes(data)
    return parts


def cifar_binary(module: Any = cifar10, count: int = 2) -> dict[str, bytes]:
    layout = module.load.layouts[0]
    labels = (3,) if module is cifar10 else (19, 99)
    return {
        name: np.hstack([np.array([labels] * count, np.uint8), images(count, 3072)]).tobytes()
        for name in (*layout.train, layout.test)
    }


def write_files(at: Path, files: dict[str, bytes]) -> Path:
    at.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (at / name).write_bytes(data)
    return at


def tar_gz(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def npz_arrays(**changes: Any) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "x_train": images(4, 5, 6),
        "y_train": np.array([0, 1, 2, 1]),
        "x_test": images(2, 5, 6),
        "y_test": np.array([2, 0]),
    }
    return arrays | changes


def write_npz(at: Path, **changes: Any) -> Path:
    np.savez(at, **npz_arrays(**changes))
    return at


def write_image(path: Path, mode: str = "L", size: tuple[int, int] = (6, 5), level: int = 7) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, level if mode in ("L", "1", "I;16", "P") else (level, level + 1, level + 2)).save(path)


def write_folder(root: Path, mode: str = "L") -> Path:
    for part in ("train", "test"):
        for level, name in enumerate(("cat", "dog")):
            write_image(root / part / name / "1.png", mode, level=10 * level)
            write_image(root / part / name / "2.png", mode, level=10 * level + 5)
    return root


# --- what all have in common ----------------------------------------------------------------------------------------


def test_every_dataset_file_has_the_contract() -> None:
    expected = {"digits": 20, "npz": 30, "folder": 30, "mnist": 20, "fashion-mnist": 20, "kmnist": 20}
    expected |= {"cifar10": 100, "cifar100": 100}
    expected |= {"svhn": 20, "stl10": 100, "tiny-imagenet": 100, "imagenet": 90, "medmnist": 20, "hf": 30}
    tokens = {name for name in registry.names("datasets") if inputs_of("datasets", name) == "tokens"}
    assert set(expected) == set(registry.names("datasets")) - tokens
    crops = {"cifar10", "cifar100", "stl10", "tiny-imagenet"}
    for name, epochs in expected.items():
        entry = registry.describe("datasets", name)
        assert entry.constants["EPOCHS"] == epochs
        usual = "random-resized-crop" if name == "imagenet" else "none"
        assert entry.constants["AUGMENT"] == ("crop-flip" if name in crops else usual)
        assert len(entry.summary) > 20
        assert callable(registry.load("datasets", name).load)


def test_importing_the_files_loads_no_heavy_library() -> None:
    code = (
        "import sys; from supermask.datasets import cifar10, digits, folder, hf, imagenet, mnist, npz, svhn; "
        "heavy = ('jax', 'sklearn', 'PIL', 'pooch', 'requests', 'scipy', 'pyarrow'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "module", [digits, mnist, fashion_mnist, kmnist, cifar10, cifar100, svhn, stl10, tiny_imagenet, imagenet]
)
def test_argument_where_none_is_taken(module: Any, tmp_path: Path) -> None:
    fails(lambda: module.load(tmp_path, "x"), "after a colon", error=UsageError)


@pytest.mark.parametrize("module", [npz, folder, hf])
def test_no_argument_where_one_is_needed(module: Any, tmp_path: Path) -> None:
    name = module.__name__.rpartition(".")[2]
    fails(lambda: module.load(tmp_path), f"{name}:PATH", error=UsageError)
    fails(lambda: module.load(tmp_path, str(tmp_path / "none")), tmp_path / "none", "not exist")


@pytest.mark.parametrize("module", [mnist, fashion_mnist, kmnist, cifar10, cifar100])
def test_offline_names_the_url_and_the_folder(module: Any, tmp_path: Path) -> None:
    source = module.load
    into = tmp_path if source.name.startswith("cifar") else tmp_path / source.name
    words = (f"{source.name} is not in {tmp_path}", source.mirrors[0], f"into {into}/", "SUPERMASK_OFFLINE")
    fails(lambda: module.load(tmp_path), *words)
    assert list(tmp_path.iterdir()) == []


def test_check_names_what_disagrees() -> None:
    from supermask.datasets._check import check

    good = Split(images(3, 4, 4, 1), np.array([0, 1, 1], np.int32))
    dataset = Dataset(good, good, ("a", "b"), (0.5,), (0.5,))
    assert check(dataset, "here") is dataset
    other = Split(images(3, 5, 4, 1), good.targets)
    for field, split, word in (
        ("test", Split(good.inputs.astype(np.float32), good.targets), "uint8"),
        ("test", Split(good.inputs, good.targets.astype(np.int64)), "int32"),
        ("train", Split(good.inputs[:2], good.targets), "2 images and 3 labels"),
        ("test", Split(good.inputs[:0], good.targets[:0]), "empty"),
        ("train", Split(good.inputs, good.targets + np.int32(1)), "label 2"),
        ("test", Split(good.inputs, good.targets - np.int32(1)), "label -1"),
        ("test", other, "5x4x1"),
        ("validation", other, "5x4x1"),
    ):
        changed: dict[str, Any] = {field: split}
        broken = dataclasses.replace(dataset, **changed)
        fails(functools.partial(check, broken, "here"), "here", field, word)
    for change in ({"std": (0.0,)}, {"mean": (0.1, 0.2)}, {"mean": (float("nan"),)}):
        fails(functools.partial(check, dataclasses.replace(dataset, **change), "here"), "mean", "std")


def test_mean_and_std_per_channel() -> None:
    pixels = images(50, 7, 3, 2)
    mean, std = mean_std(pixels)
    np.testing.assert_allclose(mean, (pixels / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (pixels / 255).std((0, 1, 2)), rtol=1e-12)
    assert mean_std(np.full((2, 3, 3, 1), 51, np.uint8)) == ((0.2,), (1.0,))


# --- digits ---------------------------------------------------------------------------------------------------------


def test_digits_are_split_for_ever(tmp_path: Path) -> None:
    dataset = digits.load(tmp_path)
    assert dataset.train.inputs.shape == (1437, 8, 8, 1)
    assert dataset.test.inputs.shape == (360, 8, 8, 1)
    assert dataset.train.inputs.max() == 255
    assert np.bincount(dataset.test.targets).tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]
    digest = hashlib.sha256(dataset.test.inputs.tobytes() + dataset.test.targets.astype("<i4").tobytes()).hexdigest()
    assert digest == "0a1199ab54b8e00856a0261ead0b9f6a877953f309acc28712d97d89111463de"
    both = np.concatenate([dataset.train.inputs, dataset.test.inputs]).reshape(1797, -1)
    from sklearn.datasets import load_digits

    original = np.rint(load_digits().data * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, both)) == sorted(map(bytes, original))


# --- IDX ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["fashion-mnist", "FashionMNIST/raw"])
def test_idx_is_read(tmp_path: Path, place: str, zipped: bool) -> None:
    parts = write_idx(tmp_path / place, zipped=zipped)
    dataset = fashion_mnist.load(tmp_path)
    arrays = (dataset.train.inputs[..., 0], dataset.train.targets, dataset.test.inputs[..., 0], dataset.test.targets)
    for array, expected in zip(arrays, parts.values(), strict=True):
        np.testing.assert_array_equal(array, expected)
    assert dataset.mean == pytest.approx([parts[IDX_NAMES[0]].mean() / 255])
    assert dataset.classes[9] == "Ankle boot"
    assert dataset.validation is None


def test_loose_idx_files_are_mnist_and_nothing_else(tmp_path: Path) -> None:
    write_idx(tmp_path)
    dataset = mnist.load(tmp_path)
    assert (dataset.mean, dataset.std, len(dataset.train)) == ((0.1307,), (0.3081,), 6)
    fails(lambda: fashion_mnist.load(tmp_path), "fashion-mnist is not in")
    fails(lambda: kmnist.load(tmp_path), "kmnist is not in")


def test_idx_folder_that_is_empty_or_incomplete(tmp_path: Path) -> None:
    home = tmp_path / "mnist"
    home.mkdir()
    fails(lambda: mnist.load(tmp_path), home, "none of", "train-images-idx3-ubyte.gz")
    write_idx(home)
    (home / "t10k-images-idx3-ubyte.gz").unlink()
    fails(lambda: mnist.load(tmp_path), home, "lacks t10k-images-idx3-ubyte.gz;")
    assert len(list(home.iterdir())) == 3


def test_idx_of_another_shape_than_the_official_one_is_read_and_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_idx(tmp_path / "mnist", zipped=False)
    home = tmp_path / "mnist"
    assert mnist.load(tmp_path).train.inputs.shape == (6, 4, 5, 1)
    train, test = (home / name for name in (IDX_NAMES[0], IDX_NAMES[2]))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        f"note: {train} has 6 images of 4x5x1; the official file has 60,000 of 28x28x1",
        f"note: {test} has 3 images of 4x5x1; the official file has 10,000 of 28x28x1",
    ]
    dataclasses.replace(mnist.load, train=(6, 4, 5, 1), test=(1, 4, 5, 1))(tmp_path)
    assert capsys.readouterr().err == f"note: {test} has 3 images of 4x5x1; the official file has 1 of 4x5x1\n"
    write_idx(home, {IDX_NAMES[3]: np.array([0])}, zipped=False)
    fails(lambda: mnist.load(tmp_path), test, "3 images", "1 labels")
    assert capsys.readouterr().err == ""  # the error is the only line


def damage_idx() -> Iterator[tuple[bytes, tuple[str, ...]]]:
    good = idx(images(6, 4, 5))
    yield good[:100], ("truncated", "120 bytes", "84")
    yield good[:9], ("truncated", "header")
    yield b"\0", ("truncated", "1 bytes")
    yield b"", ("truncated", "0 bytes")
    yield good + b"x", ("bytes after the 120",)
    yield b"<htm" + good[4:], ("wrong magic number 3c 68 74 6d", "00 00 08 03")
    yield b"\0\0\x0d\x03" + good[4:], ("float32", "0x0d", "0x08")
    yield b"\0\0\x08\x01" + good[4:], ("1 dimensions, not 3", "labels in the wrong place")
    yield good[:4] + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1) + good[16:], ("announces", "limit")
    yield idx(images(5, 4, 5)), ("5 images", "6 labels")
    yield idx(images(6, 0, 5)), ("no pixels",)
    yield good[:4] + struct.pack(">3I", 0, 2**32 - 1, 2**32 - 1), ("no pixels",)
    yield idx(images(6, 4, 4)), ("4x5", "4x4")


@pytest.mark.parametrize(("data", "words"), list(damage_idx()))
@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_idx(tmp_path: Path, data: bytes, words: tuple[str, ...], zipped: bool) -> None:
    write_idx(tmp_path / "mnist")
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(data) if zipped else data)
    fails(lambda: mnist.load(tmp_path), tmp_path / "mnist", *words)


def test_idx_labels_out_of_range(tmp_path: Path) -> None:
    write_idx(tmp_path / "mnist", idx_parts() | {IDX_NAMES[3]: np.array([0, 10, 1])})
    fails(lambda: mnist.load(tmp_path), "t10k-labels-idx1-ubyte.gz", "label 10", "from 0 to 9")


def test_damaged_gzip(tmp_path: Path) -> None:
    write_idx(tmp_path / "mnist")
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    good = path.read_bytes()
    for data in (good[:-12], good[:5], good[:60], good[:-8] + b"\0\0\0\0" + good[-4:], good + b"rest"):
        path.write_bytes(data)
        fails(lambda: mnist.load(tmp_path), path)


def test_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(idx(np.zeros((1, 2, 2))))
        for _ in range(64):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        fails(lambda: read_idx(path, 3), path, "bytes after the 4")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


# --- CIFAR ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [cifar10, cifar100])
@pytest.mark.parametrize("inside", ["", "NAME"])
@pytest.mark.parametrize("packed", [False, True])
def test_binary_cifar_is_read(tmp_path: Path, module: Any, inside: str, packed: bool) -> None:
    source = module.load
    layout, files = source.layouts[0], cifar_binary(module)
    base = tmp_path / inside.replace("NAME", source.name)
    if packed:
        members = {f"{layout.folder}/{name}": data for name, data in files.items()}
        write_files(base, {layout.archive: tar_gz({"../evil": b"x", **members})})
    else:
        write_files(base / layout.folder, files)
    dataset = module.load(tmp_path)
    assert dataset.train.inputs.shape == (2 * len(layout.train), 32, 32, 3)
    record = np.frombuffer(files[layout.train[0]], np.uint8)[len(source.label_bytes) :]
    for channel in range(3):
        np.testing.assert_array_equal(dataset.train.inputs[0, 1, :, channel], record[channel * 1024 + 32 :][:32])
    assert set(dataset.train.targets) == {3 if module is cifar10 else 99}
    assert dataset.classes[-1] == ("truck" if module is cifar10 else "worm")
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_python_cifar_equals_binary(tmp_path: Path, protocol: int, order: Literal["C", "F"]) -> None:
    files = cifar_binary(cifar100, count=3)
    write_files(tmp_path / "a" / "cifar-100-binary", files)
    pickles = {}
    for name, data in files.items():
        table = np.frombuffer(data, np.uint8).reshape(-1, 3074)
        content = {b"data": table[:, 2:].copy(order), b"fine_labels": table[:, 1].tolist(), b"filenames": [b"x"]}
        pickles[name.removesuffix(".bin")] = pickle.dumps(content, protocol)
    write_files(tmp_path / "b" / "cifar-100-python", pickles)
    one, other = cifar100.load(tmp_path / "a"), cifar100.load(tmp_path / "b")
    for part in ("train", "test"):
        np.testing.assert_array_equal(getattr(one, part).inputs, getattr(other, part).inputs)
        np.testing.assert_array_equal(getattr(one, part).targets, getattr(other, part).targets)


def test_pickle_of_python_2_is_read() -> None:
    # As cPickle of Python 2 with NumPy 1 writes it: strings are bytes, and the old module names.
    data = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b"
        b"\x87Rq\x05(K\x01K\x02K\x02\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x04\x01\x02\x03\xfftbU\x06labelsq\x08]q\x09(K\x06K\x09eu."
    )
    content = load_dict(data, Path("data_batch_1"))
    np.testing.assert_array_equal(content["data"], np.array([[1, 2], [3, 255]], np.uint8))
    assert content["labels"] == [6, 9]


class Evil:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, ("was-here",)


def damage_pickle() -> Iterator[tuple[bytes, tuple[str, ...]]]:
    pixels = images(2, 3072)
    good = {"data": pixels, "labels": [1, 2]}
    yield pickle.dumps(good | {"more": Evil()}), ("names", "mkdir")
    yield b"cbuiltins\neval\n(S'1'\ntR.", ("builtins.eval",)
    yield b"cnumpy\nndarray\n(tR.", ("numpy.ndarray",)
    yield b"cnumpy.core.multiarray\n_reconstruct\n}b.", ("changes a function",)
    yield pickle.dumps(good | {"data": pixels.astype(object)}), ("type 'O8'",)
    yield pickle.dumps(good | {"data": pixels.astype("S3")}), ("type 'S3'",)
    yield pickle.dumps(good)[:1000], ("not a pickle",)
    yield b"", ("not a pickle",)
    yield b"<html>", ("not a pickle",)
    yield b"\x80\x04r\xff\xff\xff\xff.", ("not a pickle",)
    yield b"\x80\x05\x96" + struct.pack("<Q", 1 << 42) + b"x.", ("not a pickle",)
    yield pickle.dumps([good]), ("list, not a dictionary",)
    yield pickle.dumps({"data": pixels, "fine_labels": [1, 2]}), ("no 'labels'", "data, fine_labels")
    yield pickle.dumps({"labels": [1, 2]}), ("no 'data'",)
    yield pickle.dumps(good | {"data": pixels[:, :-1]}), ("(n, 3072)",)
    yield pickle.dumps(good | {"data": pixels.astype(np.int16)}), ("uint8",)
    yield pickle.dumps(good | {"data": pixels.tolist()}), ("uint8",)
    yield pickle.dumps(good | {"labels": [1]}), ("2 images and 1 labels",)
    yield pickle.dumps(good | {"labels": [1, 10]}), ("label 10", "0 to 9")
    yield pickle.dumps(good | {"labels": [-1, 1]}), ("label -1",)
    yield pickle.dumps(good | {"labels": [1, 10**4000]}), ("label 1000",)
    yield pickle.dumps(good | {"labels": [1, "2"]}), ("whole numbers",)
    yield pickle.dumps(good | {"labels": np.array([1, 2])}), ("list",)


@pytest.mark.parametrize(("data", "words"), list(damage_pickle()))
def test_damaged_or_hostile_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    good = pickle.dumps({"data": images(2, 3072), "labels": [1, 2]})
    names = (*cifar10.load.layouts[1].train, "test_batch")
    home = write_files(tmp_path / "cifar-10-batches-py", dict.fromkeys(names, good))
    assert len(cifar10.load(tmp_path).train) == 10
    (home / "data_batch_4").write_bytes(data)
    fails(lambda: cifar10.load(tmp_path), home / "data_batch_4", *words)
    assert not Path("was-here").exists()


def test_cifar_of_another_number_of_images_is_read_and_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = cifar_binary()
    home = write_files(tmp_path / "cifar-10-batches-bin", files | {"test_batch.bin": files["test_batch.bin"][:3073]})
    dataset = cifar10.load(tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (10, 1)
    captured = capsys.readouterr()
    assert captured.out == ""
    test = f"note: {home}: the test split has 1 image of 32x32x3; the official split has 10,000 of 32x32x3"
    assert captured.err.splitlines() == [
        f"note: {home}: the train split has 10 images of 32x32x3; the official split has 50,000 of 32x32x3",
        test,
    ]
    dataclasses.replace(cifar10.load, train=(10, 32, 32, 3))(tmp_path)
    assert capsys.readouterr().err == test + "\n"


def test_damaged_binary_cifar(tmp_path: Path) -> None:
    files = cifar_binary()
    home = write_files(tmp_path / "cifar-10-batches-bin", files)
    batch = home / "data_batch_2.bin"
    good = batch.read_bytes()
    for data, words in (
        (good[:-1], (batch, "6145 bytes", "records of 3073")),
        (b"", (batch, "0 bytes")),
        (good[:3073], (batch, "1 images", "data_batch_1.bin 2", "same number")),
        (b"\x0a" + good[1:], (batch, "label 10", "0 to 9")),
    ):
        batch.write_bytes(data)
        fails(lambda: cifar10.load(tmp_path), *words)
    batch.unlink()
    fails(lambda: cifar10.load(tmp_path), home, "lacks data_batch_2.bin;")
    for name in files:
        (home / name).unlink(missing_ok=True)
    fails(lambda: cifar10.load(tmp_path), home, "none of data_batch_1.bin")
    home.rmdir()
    (tmp_path / "cifar10").mkdir()
    fails(lambda: cifar10.load(tmp_path), tmp_path / "cifar10", "none of cifar-10-batches-bin")


@pytest.mark.parametrize(("column", "label"), [(0, 20), (1, 100)])
def test_cifar100_labels_out_of_range(tmp_path: Path, column: int, label: int) -> None:
    files = {name: bytearray(data) for name, data in cifar_binary(cifar100).items()}
    files["test.bin"][column] = label
    write_files(tmp_path / "cifar-100-binary", {name: bytes(data) for name, data in files.items()})
    fails(lambda: cifar100.load(tmp_path), "test.bin", f"label {label};")


def test_damaged_archive(tmp_path: Path) -> None:
    members = {f"cifar-10-batches-bin/{name}": data for name, data in cifar_binary().items()}
    good = tar_gz(members)
    archive = tmp_path / "cifar-10-binary.tar.gz"
    lacking = tar_gz({name: data for name, data in members.items() if "test" not in name})
    for data, word in (
        (good[: len(good) // 2], "damaged"),
        (good[:-6], "damaged"),
        (b"", "damaged"),
        (b"<html>", "damaged"),
        (gzip.compress(b"no tar" * 200), "damaged"),
        (lacking, "lacks cifar-10-batches-bin/test_batch.bin"),
    ):
        archive.write_bytes(data)
        fails(lambda: cifar10.load(tmp_path), archive, word)
    assert list(tmp_path.iterdir()) == [archive]


def test_archive_links_and_bombs_are_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        link = tarfile.TarInfo("wanted")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(out.getvalue())
    assert read_members(archive, ["wanted"]) == {}
    archive.write_bytes(tar_gz({"big": bytes(1 << 22), "wanted": b"x"}))
    assert read_members(archive, ["wanted"]) == {"wanted": b"x"}
    fails(lambda: read_members(archive, ["wanted"], limit=1 << 20), archive, "more than 1048576 bytes")


# --- npz ------------------------------------------------------------------------------------------------------------


def test_npz_is_read(tmp_path: Path) -> None:
    arrays = npz_arrays()
    dataset = npz.load(tmp_path, str(write_npz(tmp_path / "a.npz", **arrays)))
    np.testing.assert_array_equal(dataset.train.inputs[..., 0], arrays["x_train"])
    assert dataset.test.targets.tolist() == [2, 0]
    assert dataset.classes == ("0", "1", "2")
    assert dataset.mean == pytest.approx([arrays["x_train"].mean() / 255])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_npz_of_floats_fortran_order_and_column_labels(tmp_path: Path, dtype: str) -> None:
    pixels = images(4, 5, 6, 3)
    floats = np.asfortranarray((pixels / 255).astype(dtype))
    path = tmp_path / "a.npz"
    changes = {"x_test": pixels, "y_train": np.array([[0], [1], [4], [1]], np.uint8), "y_test": np.arange(4)}
    np.savez_compressed(path, **npz_arrays(x_train=floats, **changes))
    dataset = npz.load(tmp_path, str(path))
    np.testing.assert_array_equal(dataset.train.inputs, pixels)
    assert dataset.train.targets.tolist() == [0, 1, 4, 1]
    assert len(dataset.classes) == 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_train": np.array([1, "a"], object)}, ("x_train", "object")),
        ({"x_train": np.array(["a", "b"])}, ("x_train", "<U1")),
        ({"x_train": images(4, 30)}, ("x_train", "(4, 30)", "(n, height, width)")),
        ({"x_train": images(4, 3, 4, 32)}, ("channels come last",)),
        ({"x_train": images(3, 5, 6)}, ("3 images", "4 labels")),
        ({"y_test": np.arange(3)}, ("2 images", "3 labels")),
        ({"x_train": images(0, 5, 6), "y_train": np.arange(0)}, ("x_train", "no image")),
        ({"x_test": images(0, 5, 6), "y_test": np.arange(0)}, ("x_test", "no image")),
        ({"x_train": images(4, 5, 6).astype(np.int64) + 1000}, ("x_train is int64 from 10", "from 0 to 255")),
        ({"x_train": images(4, 5, 6).astype(np.int8) | np.int8(-128)}, ("x_train is int8 from -1", "from 0 to 255")),
        ({"x_train": np.full((4, 5, 6), 255.5)}, ("x_train is float64 from 255.5", "from 0 to 1 or from 0 to 255")),
        ({"x_train": np.full((4, 5, 6), 1.5)}, ("x_train is float64", "up to 1.5", "from 0 to 1 or from 0 to 255")),
        ({"x_train": np.full((4, 5, 6), np.nan)}, ("nan", "from 0 to 1")),
        ({"x_train": np.full((4, 5, 6), -0.01)}, ("-0.01", "from 0 to 1", "before any normalisation")),
        ({"x_train": np.full((4, 5, 6), np.inf)}, ("inf", "from 0 to 1")),
        (
            {"x_train": np.full((4, 5, 6), 200.0), "x_test": np.full((2, 5, 6), 0.5)},
            ("x_test goes up to 0.5 and x_train to 200", "in all splits"),
        ),
        ({"x_train": np.zeros((4, 5, 6), complex)}, ("x_train", "complex128")),
        ({"x_test": images(2, 5, 7)}, ("5x7x1", "5x6x1")),
        ({"x_test": images(2, 5, 6, 3)}, ("5x6x3", "5x6x1")),
        ({"y_train": np.array([0.0, 1, 2.5, 1])}, ("y_train", "label 2.5", "whole numbers")),
        ({"y_train": np.array([0.0, 1, np.nan, 1])}, ("y_train", "label nan", "whole numbers")),
        ({"y_train": np.array([0, 1, 2, 1j])}, ("y_train", "complex128")),
        ({"y_train": np.ones((4, 4), int)}, ("y_train", "(4, 4)", "a single 1", "(n, 1)")),
        ({"y_train": np.full((4, 2), 0.5)}, ("y_train", "(4, 2)", "a single 1")),
        ({"y_train": np.zeros((4, 2, 2))}, ("y_train", "(4, 2, 2)", "(n, 1)")),
        ({"y_train": np.eye(4), "y_test": np.eye(3)[:2]}, ("y_train has 4 columns, y_test has 3", "one per class")),
        ({"y_train": np.array(["a", "b", "c", "a"])}, ("y_train is <U1 and y_test is int64",)),
        (
            {"y_train": np.array(["a", "b", "b", "a"]), "y_test": np.array(["a", "c"])},
            ("y_test has the label 'c', which y_train lacks",),
        ),
        ({"x_val": images(2, 5, 6)}, ("no array 'y_val'", "x_val")),
        ({"y_train": np.array([0, -1, 2, 1])}, ("y_train", "label -1")),
        ({"y_train": np.array([0, 2**63, 2, 1], np.uint64)}, ("y_train", "label 9223372036854775808")),
        ({"y_test": np.array([0, 3])}, ("test", "label 3", "0 to 2")),
        ({"y_test": np.array(3)}, ("y_test", "()")),
    ],
)
def test_npz_of_wrong_arrays(tmp_path: Path, changes: dict[str, np.ndarray], words: tuple[str, ...]) -> None:
    path = write_npz(tmp_path / "a.npz", **changes)
    fails(lambda: npz.load(tmp_path, str(path)), path, *words)


def test_npz_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with path.open("wb") as file:
        np.save(file, images(4, 5, 6))
    fails(lambda: npz.load(tmp_path, str(path)), path, "not an .npz file", "zip")
    path.write_bytes(b"")
    fails(lambda: npz.load(tmp_path, str(path)), path, "not an .npz file")
    good = write_npz(path).read_bytes()
    path.write_bytes(good[: len(good) // 2])
    fails(lambda: npz.load(tmp_path, str(path)), path, "not an .npz file")
    arrays = npz_arrays()
    del arrays["y_test"]
    np.savez(path, **arrays)
    fails(lambda: npz.load(tmp_path, str(path)), path, "no array 'y_test'", "x_test, x_train, y_train")
    fails(lambda: npz.load(tmp_path, str(tmp_path)), tmp_path, "Is a directory")


def fill(archive: zipfile.ZipFile) -> None:
    """Write the arrays that are as they should be."""
    for name, array in npz_arrays().items():
        if f"{name}.npy" not in archive.namelist():
            data = io.BytesIO()
            np.save(data, array)
            archive.writestr(f"{name}.npy", data.getvalue())


def test_npz_member_that_lies_about_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        header = io.BytesIO()
        descr = {"descr": "|u1", "fortran_order": False, "shape": (10**9, 10**4, 10)}
        np.lib.format.write_array_header_1_0(header, descr)
        archive.writestr("x_train.npy", header.getvalue() + bytes(10))
        fill(archive)
    fails(lambda: npz.load(tmp_path, str(path)), path, "announces 100000000000000 bytes", "holds 10")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train.npy", b"no array")
        fill(archive)
    fails(lambda: npz.load(tmp_path, str(path)), path, "x_train", "damaged .npy header")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_npz_whose_directory_lies_too_takes_no_memory(tmp_path: Path, compression: int) -> None:
    """The header of the array and the directory of the archive agree on a gigabyte that is not there."""
    announced = 1 << 30
    header = io.BytesIO()
    descr = {"descr": "|u1", "fortran_order": False, "shape": (announced // 1024, 32, 32)}
    np.lib.format.write_array_header_1_0(header, descr)
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x_train.npy", header.getvalue() + RNG.bytes(1000))
        archive.getinfo("x_train.npy").file_size = len(header.getvalue()) + announced
        if compression == zipfile.ZIP_STORED:
            archive.getinfo("x_train.npy").compress_size = len(header.getvalue()) + announced
        fill(archive)
    tracemalloc.start()
    try:
        fails(lambda: npz.load(tmp_path, str(path)), path, f"announces {announced} bytes", "can be read from this file")
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


# --- folder ---------------------------------------------------------------------------------------------------------


def test_folder_of_grey_images(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    write_image(root / "train" / "cat" / "3.PNG", "1", level=1)
    (root / "train" / "cat" / "notes.txt").write_text("not an image")
    (root / "train" / ".hidden").mkdir()
    dataset = folder.load(tmp_path, str(root))
    assert dataset.classes == ("cat", "dog")
    assert dataset.train.inputs.shape == (5, 5, 6, 1)
    assert dataset.train.inputs[:, 0, 0, 0].tolist() == [0, 5, 255, 10, 15]
    assert dataset.train.targets.tolist() == [0, 0, 0, 1, 1]
    assert dataset.test.targets.tolist() == [0, 0, 1, 1]


def test_folder_is_rgb_if_any_image_is(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    write_image(root / "test" / "dog" / "3.jpeg", "RGB", level=100)
    write_image(root / "test" / "dog" / "4.jpg", "RGB", level=200)
    write_image(root / "test" / "dog" / "5.png", "RGBA", level=50)
    dataset = folder.load(tmp_path, str(root))
    assert dataset.train.inputs.shape == (4, 5, 6, 3)
    assert dataset.train.inputs[1, 0, 0].tolist() == [5, 5, 5]
    assert dataset.test.inputs[-1, 0, 0].tolist() == [50, 51, 52]
    assert abs(int(dataset.test.inputs[-3, 0, 0, 0]) - 100) < 5
    assert len(dataset.mean) == len(dataset.std) == 3


def test_images_of_two_sizes(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    write_image(root / "train" / "dog" / "2.png", size=(9, 8))
    first, odd = root / "train" / "cat" / "1.png", root / "train" / "dog" / "2.png"
    fails(lambda: folder.load(tmp_path, str(root)), f"{odd} is 9x8", f"{first} is 6x5")


def test_unreadable_images(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    path = root / "test" / "dog" / "1.png"
    good = path.read_bytes()
    for data in (b"", b"<html>", good[:20], good[:50], good[:-20], good[:45] + b"\xff" * 8 + good[53:]):
        path.write_bytes(data)
        message = fails(lambda: folder.load(tmp_path, str(root)), "cannot read the image")
        assert message.count(str(path)) == 1
    write_image(path, "I;16")
    fails(lambda: folder.load(tmp_path, str(root)), path, "8 bits")
    write_image(root / "x.tga")
    path.write_bytes((root / "x.tga").read_bytes())
    fails(lambda: folder.load(tmp_path, str(root)), path, "none of PNG, JPEG, GIF")


def test_image_bomb_is_not_decoded(tmp_path: Path) -> None:
    import zlib

    root = write_folder(tmp_path)
    path = root / "train" / "cat" / "1.png"
    header = b"IHDR" + struct.pack(">2I5B", 60000, 60000, 8, 0, 0, 0, 0)
    data = path.read_bytes()
    path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    fails(lambda: folder.load(tmp_path, str(root)), path, "exceeds limit")


def test_folders_that_lack_something(tmp_path: Path) -> None:
    root = tmp_path / "set"
    load = functools.partial(folder.load, tmp_path, str(root))
    root.mkdir()
    fails(load, root / "train", "is missing")
    write_image(root / "train" / "cat" / "1.png")
    fails(load, root / "test", "is missing")
    (root / "test").mkdir()
    fails(load, root / "test", "no class folders")
    (root / "test" / "cat").mkdir()
    fails(load, root / "test" / "cat", "no images", ".png")
    write_image(root / "test" / "cat" / "1.png")
    write_image(root / "test" / "dog" / "1.png")
    fails(load, root, "class dog in test but not in train")
    write_image(root / "train" / "dog" / "1.png")
    write_image(root / "train" / "fox" / "1.png")
    fails(load, root, "class fox in train but not in test")
    write_image(root / "test" / "fox" / "1.png")
    assert load().classes == ("cat", "dog", "fox")
    fails(lambda: folder.load(tmp_path, str(root / "test" / "cat" / "1.png")), "is not a folder")


# --- random damage --------------------------------------------------------------------------------------------------


def damaged(data: bytes, times: int) -> Iterator[bytes]:
    """Cut somewhere, or with a few bytes changed, most of them near the beginning or the end."""
    rng = np.random.default_rng(1)
    for _ in range(times):
        broken = bytearray(data)
        near = int(rng.integers(1, min(len(data), 200)))
        for _ in range(int(rng.integers(1, 4))):
            at = (int(rng.integers(len(data))), near, len(data) - near)[rng.integers(3)]
            broken[at] = int(rng.integers(256))
        yield bytes(broken[: int(rng.integers(len(data)))] if rng.random() < 0.3 else broken)


def test_random_damage_ends_in_our_error_or_a_valid_dataset(tmp_path: Path) -> None:
    write_idx(tmp_path / "mnist")
    write_npz(tmp_path / "a.npz")
    write_folder(tmp_path / "set")
    write_image(tmp_path / "set" / "test" / "dog" / "2.jpg")
    content = {"data": images(2, 3072), "labels": [1, 2]}
    names = (*cifar10.load.layouts[1].train, "test_batch")
    write_files(tmp_path / "py" / "cifar-10-batches-py", dict.fromkeys(names, pickle.dumps(content, 2)))
    members = {f"cifar-100-binary/{name}": data for name, data in cifar_binary(cifar100, 1).items()}
    write_files(tmp_path / "tar", {"cifar-100-binary.tar.gz": tar_gz(members)})
    cases: list[tuple[Path, Callable[[], Dataset]]] = [
        (tmp_path / "mnist" / "train-images-idx3-ubyte.gz", lambda: mnist.load(tmp_path)),
        (tmp_path / "a.npz", lambda: npz.load(tmp_path, str(tmp_path / "a.npz"))),
        (tmp_path / "set" / "train" / "cat" / "1.png", lambda: folder.load(tmp_path, str(tmp_path / "set"))),
        (tmp_path / "set" / "test" / "dog" / "2.jpg", lambda: folder.load(tmp_path, str(tmp_path / "set"))),
        (tmp_path / "py" / "cifar-10-batches-py" / "data_batch_1", lambda: cifar10.load(tmp_path / "py")),
        (tmp_path / "tar" / "cifar-100-binary.tar.gz", lambda: cifar100.load(tmp_path / "tar")),
    ]
    for path, load in cases:
        good, refused = path.read_bytes(), 0
        assert len(load().train) > 0
        for data in damaged(good, 80):
            path.write_bytes(data)
            with contextlib.suppress(BadFileError):
                refused += 1
                load()
                refused -= 1
        assert refused > 20, path
        path.write_bytes(good)


# --- fetching -------------------------------------------------------------------------------------------------------


def test_mnist_is_fetched_once_from_the_first_good_mirror(
    tmp_path: Path, serve: Callable[[dict[str, bytes]], Server], capfd: pytest.CaptureFixture[str]
) -> None:
    files = {f"{name}.gz": gzip.compress(idx(array)) for name, array in idx_parts().items()}
    bad = {name: bytes(len(data)) for name, data in files.items()}
    mirrors = {"wrong": bad, "html": dict.fromkeys(files, b"<html>"), "short": files, "good": files, "last": files}
    mirrors["long"] = {name: data + b"x" for name, data in files.items()}
    server = serve({f"/{mirror}/{name}": data for mirror, held in mirrors.items() for name, data in held.items()})
    order = ("missing", "wrong", "html", "long", "short", "good", "last")
    source = dataclasses.replace(
        mnist.load,
        train=(6, 4, 5, 1),
        test=(3, 4, 5, 1),
        mirrors=tuple(f"{server.url}{mirror}/" for mirror in order),
        files=tuple(remote(name, data) for name, data in files.items()),  # type: ignore[arg-type]
    )
    data_dir = tmp_path / "new"
    dataset = source(data_dir)
    assert len(dataset.train) == 6
    assert [path.name for path in data_dir.iterdir()] == ["mnist"]
    assert {path.name: path.read_bytes() for path in (data_dir / "mnist").iterdir()} == files
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in (data_dir / "mnist").iterdir())
    # The mirrors that failed are tried for one file only.
    assert [path.split("/")[1] for path in server.asked] == [*order[:-1], "good", "good", "good"]
    captured = capfd.readouterr()
    assert captured.out == ""
    shown = [line.split("/")[3] for line in captured.err.splitlines() if line.startswith("fetching mnist: http")]
    assert len(shown) == len(captured.err.splitlines())
    assert "missing" not in shown  # nothing came from there, so there is nothing to tell
    assert shown.count("good") == 4
    source(data_dir)
    assert len(server.asked) == 9


def test_what_a_killed_download_left_is_removed_by_the_next(
    tmp_path: Path, serve: Callable[[dict[str, bytes]], Server]
) -> None:
    files = {f"{name}.gz": gzip.compress(idx(array)) for name, array in idx_parts().items()}
    server = serve({f"/{name}": data for name, data in files.items()})
    parts = {word: tmp_path / f".mnist.{word}.part" for word in ("dead", "alive", "new")}
    for part in parts.values():
        part.mkdir()
        (part / "half").write_bytes(b"x")
    for word in ("dead", "alive"):
        os.utime(parts[word], (0, time.time() - 120))
    lock = os.open(parts["alive"], os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    source = dataclasses.replace(
        mnist.load,
        mirrors=(server.url,),
        files=tuple(remote(name, data) for name, data in files.items()),  # type: ignore[arg-type]
    )
    source(tmp_path)
    os.close(lock)
    assert {path.name for path in tmp_path.iterdir()} == {"mnist", parts["alive"].name, parts["new"].name}


def test_cifar_archive_is_fetched_and_written_in_the_official_layout(
    tmp_path: Path, serve: Callable[[dict[str, bytes]], Server]
) -> None:
    files = cifar_binary()
    members = {f"cifar-10-batches-bin/{name}": data for name, data in files.items()}
    archive = tar_gz({**members, "cifar-10-batches-bin/batches.meta.txt": b"airplane\n", "../evil": b"x"})
    server = serve({"/cifar-10-binary.tar.gz": archive})
    source = dataclasses.replace(cifar10.load, mirrors=(server.url,), remote=remote("cifar-10-binary.tar.gz", archive))
    assert len(source(tmp_path).train) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-batches-bin"]
    written = {path.name: path.read_bytes() for path in (tmp_path / "cifar-10-batches-bin").iterdir()}
    assert written == files | {"batches.meta.txt": b"airplane\n"}
    source(tmp_path)
    assert len(server.asked) == 1


def test_no_mirror_helps(tmp_path: Path, serve: Callable[[dict[str, bytes]], Server]) -> None:
    server = serve({"/wrong/a.gz": b"wrong"})
    closed = serve({})
    closed.shutdown()
    closed.server_close()
    mirrors = [f"{server.url}{name}/" for name in ("missing", "wrong")] + [closed.url, "http://[bad/"]
    call = functools.partial(fetch, "thing")
    words = (
        "thing is not in",
        "HTTP 404",
        "wrong SHA-256",
        "no connection",
        f"put {mirrors[0]}a.gz, b.gz into",
    )
    files = [remote("a.gz", b"right"), remote("b.gz", b"")]
    target = tmp_path / "new" / "thing"
    fails(lambda: call(mirrors, files, target, into=target), f"{tmp_path / 'new'}", *words, f"{target}{os.sep}")
    assert list(tmp_path.iterdir()) == []


def test_a_mirror_that_never_answers(tmp_path: Path, serve: Callable[[dict[str, bytes]], Server]) -> None:
    server = serve({"/stall/a": b"right"})
    call = functools.partial(fetch, "thing", [f"{server.url}stall/"], [remote("a", b"right")], timeout=(60, 0.1))
    target = tmp_path / "thing"
    fails(lambda: call(target, into=target), "thing is not in", "timed out", "put http")
    assert list(tmp_path.iterdir()) == []


def test_fetching_where_nothing_can_be_written(tmp_path: Path, serve: Callable[[dict[str, bytes]], Server]) -> None:
    server = serve({"/a": b"right"})
    (tmp_path / "file").write_bytes(b"")
    target = tmp_path / "file" / "thing"
    call = functools.partial(fetch, "thing", [server.url], [remote("a", b"right")], target, into=target)
    fails(call, "thing is not in", "cannot be fetched", "put http")
    assert server.asked == []


def test_two_at_once_both_get_the_files(tmp_path: Path, serve: Callable[[dict[str, bytes]], Server]) -> None:
    server = serve({"/slow/a": b"right"})
    target = tmp_path / "thing"
    results: list[object] = []

    def run() -> None:
        mirrors, files = [f"{server.url}slow/"], [remote("a", b"right")]
        results.append(fetch("thing", mirrors, files, target, into=target))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [target] * 3
    assert [(path.name, path.read_bytes()) for path in target.iterdir()] == [("a", b"right")]
    assert list(tmp_path.iterdir()) == [target]


def test_files_that_are_there_but_bad_are_not_fetched_over(
    tmp_path: Path, serve: Callable[[dict[str, bytes]], Server]
) -> None:
    server = serve({})
    write_idx(tmp_path / "mnist")
    path = tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(b"bad")
    source = dataclasses.replace(mnist.load, mirrors=(server.url,))
    fails(lambda: source(tmp_path), path)
    path.unlink()
    fails(lambda: source(tmp_path), path.name)
    assert server.asked == []


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    np.testing.assert_array_equal(digits._table(), np.column_stack([bunch.data, bunch.target]))
