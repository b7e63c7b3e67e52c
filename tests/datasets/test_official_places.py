"""Where the official files are found: the folders and names of torchvision, Keras, Kaggle and unpackers."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supermask.datasets import cifar10, cifar100, fashion_mnist, kmnist, mnist
from supermask.errors import BadFileError

RNG = np.random.default_rng(0)
IDX = {
    "train-images-idx3-ubyte": RNG.integers(0, 256, (6, 4, 5), dtype=np.uint8),
    "train-labels-idx1-ubyte": np.arange(6, dtype=np.uint8),
    "t10k-images-idx3-ubyte": RNG.integers(0, 256, (3, 4, 5), dtype=np.uint8),
    "t10k-labels-idx1-ubyte": np.arange(3, dtype=np.uint8),
}
ROWS = RNG.integers(0, 256, (2, 3072), dtype=np.uint8)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERMASK_OFFLINE", "1")


def write_idx(at: Path, rename: str = "{name}", zipped: bool = False) -> None:
    for name, array in IDX.items():
        data = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
        path = at / rename.format(name=name, dotted=name.replace("-idx", ".idx"), lower=name.replace("-", "_"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data) if zipped else data)


def cifar_files(module: Any, pickled: bool) -> dict[str, bytes]:
    """Two images in each file."""
    source = module.load
    layout = source.layouts[int(pickled)]
    labels = [1, 0]
    if pickled:
        data = pickle.dumps({b"data": ROWS, source.label_key.encode(): labels}, 2)
    else:
        columns = [np.array([labels], np.uint8).T] * len(source.label_bytes)
        data = np.hstack([*columns, ROWS]).tobytes()
    return dict.fromkeys(layout.files, data)


def write_files(at: Path, files: dict[str, bytes]) -> None:
    at.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (at / name).write_bytes(data)


def tar(files: dict[str, bytes], mode: Any = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


# --- IDX ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    "rename",
    ["{dotted}", "{dotted}.gz", "{name}/{name}", "{name}/{dotted}", "{lower}", "{name}.GZ"],
)
def test_names_that_unpackers_give(tmp_path: Path, rename: str, zipped: bool) -> None:
    write_idx(tmp_path / "mnist", rename, zipped)
    dataset = mnist.load(tmp_path)
    np.testing.assert_array_equal(dataset.train.inputs[..., 0], IDX["train-images-idx3-ubyte"])
    np.testing.assert_array_equal(dataset.test.targets, IDX["t10k-labels-idx1-ubyte"])


def test_a_file_under_its_own_name_goes_first(tmp_path: Path) -> None:
    write_idx(tmp_path / "mnist")
    for path in list((tmp_path / "mnist").iterdir()):
        path.with_name(path.name.replace("-idx", ".idx")).write_bytes(b"rubbish")
    assert len(mnist.load(tmp_path).train) == 6


@pytest.mark.parametrize(
    ("module", "place", "data_dir"),
    [
        (mnist, "MNIST/raw", "."),
        (mnist, "mnist/MNIST/raw", "."),
        (mnist, "MNIST/raw", "MNIST"),
        (mnist, "MNIST/raw", "MNIST/raw"),
        (mnist, "mnist", "mnist"),
        (fashion_mnist, "FashionMNIST/raw", "."),
        (fashion_mnist, "fashion-mnist", "."),
        (fashion_mnist, "fashion-mnist", "fashion-mnist"),
        (fashion_mnist, "FashionMNIST/raw", "FashionMNIST"),
        (fashion_mnist, "FashionMNIST/raw", "FashionMNIST/raw"),
        (fashion_mnist, "fashion-mnist/FashionMNIST/raw", "."),
        (kmnist, "KMNIST/raw", "."),
        (kmnist, "KMNIST/raw", "KMNIST/raw"),
    ],
)
def test_folders_of_torchvision_and_keras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, place: str, data_dir: str
) -> None:
    write_idx(tmp_path / place)
    assert len(module.load(tmp_path / data_dir).train) == 6
    monkeypatch.chdir(tmp_path / data_dir)
    assert len(module.load(Path()).train) == 6


def test_the_files_of_one_dataset_are_not_taken_for_another(tmp_path: Path) -> None:
    write_idx(tmp_path / "FashionMNIST" / "raw")
    write_idx(tmp_path / "KMNIST" / "raw")
    for module in (mnist, fashion_mnist):
        with pytest.raises(BadFileError, match="is not in"):
            module.load(tmp_path / "KMNIST")


@pytest.mark.parametrize("place", ["mnist.npz", "mnist/mnist.npz"])
def test_the_npz_file_of_keras(tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mnist").mkdir()
    names = ("x_train", "y_train", "x_test", "y_test")
    np.savez(tmp_path / place, **dict(zip(names, IDX.values(), strict=True)))  # type: ignore[arg-type]
    dataset = mnist.load(tmp_path)
    np.testing.assert_array_equal(dataset.train.inputs[..., 0], IDX["train-images-idx3-ubyte"])
    assert (dataset.classes, dataset.mean, dataset.std) == (tuple("0123456789"), (0.1307,), (0.3081,))
    assert (
        f"{tmp_path / place}: the train split has 6 images of 4x5x1; the official split has 60,000"
        in capsys.readouterr().err
    )
    write_idx(tmp_path / "mnist")
    (tmp_path / place).write_bytes(b"rubbish")
    assert len(mnist.load(tmp_path).train) == 6


def test_an_npz_file_of_other_classes_is_refused(tmp_path: Path) -> None:
    images, labels = IDX["t10k-images-idx3-ubyte"], np.array([3, 11, 5])
    np.savez(tmp_path / "fashion_mnist.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.raises(BadFileError, match=r"fashion_mnist\.npz: the train split has the label 11"):
        fashion_mnist.load(tmp_path)


# --- CIFAR ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "place"),
    [
        (cifar10, "cifar-10-batches-py"),  # torchvision, Keras 2
        (cifar10, "cifar-10-batches-py-target/cifar-10-batches-py"),  # Keras 3
        (cifar10, "cifar10/cifar-10-batches-py"),
        (cifar10, "cifar10"),
        (cifar10, "."),
        (cifar100, "cifar-100-python"),
        (cifar100, "cifar-100-python-target/cifar-100-python"),
        (cifar100, "."),
    ],
)
@pytest.mark.parametrize("pickled", [False, True])
def test_folders_of_cifar(tmp_path: Path, module: Any, place: str, pickled: bool) -> None:
    if not pickled:
        place = place.replace("batches-py", "batches-bin").replace("100-python", "100-binary")
    write_files(tmp_path / place, cifar_files(module, pickled))
    dataset = module.load(tmp_path)
    np.testing.assert_array_equal(dataset.test.inputs, ROWS.reshape(2, 3, 32, 32).transpose(0, 2, 3, 1))
    assert dataset.test.targets.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (cifar10, "cifar-10-python.tar.gz"),  # torchvision
        (cifar10, "cifar-10-batches-py.tar.gz"),  # Keras 2
        (cifar10, "cifar-10-batches-py-target_archive"),  # Keras 3
        (cifar10, "cifar-10-python.tgz"),
        (cifar10, "cifar-10-python.tar"),
        (cifar100, "cifar-100-python.tar.gz"),
        (cifar100, "cifar-100-python-target_archive"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "./"])
def test_archives_of_cifar(tmp_path: Path, module: Any, name: str, prefix: str) -> None:
    layout = module.load.layouts[1]
    files = {f"{prefix}{layout.folder}/{file}": data for file, data in cifar_files(module, True).items()}
    data = tar(files, "w" if name.endswith(".tar") else "w:gz")
    (tmp_path / name).write_bytes(data)
    assert module.load(tmp_path).test.targets.tolist() == [1, 0]
    for broken in (data[: len(data) // 2], data[:-12] if name[-3:] != "tar" else data[:3000], b"", b"<html>" * 200):
        (tmp_path / name).write_bytes(broken)
        with pytest.raises(BadFileError, match="damaged"):
            module.load(tmp_path)


def test_an_archive_that_is_not_packed_is_bounded_too(tmp_path: Path) -> None:
    from supermask.datasets._tar import read_members

    path = tmp_path / "a.tar"
    path.write_bytes(tar({"big": bytes(1 << 22), "wanted": b"x"}, "w"))
    assert read_members(path, ["wanted"]) == {"wanted": b"x"}
    with pytest.raises(BadFileError, match="more than 1048576 bytes"):
        read_members(path, ["wanted"], limit=1 << 20)
