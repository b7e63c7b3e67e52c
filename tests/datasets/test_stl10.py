"""STL-10 in the official binary files, unpacked and in their archive."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from supermask.datasets import stl10
from supermask.errors import BadFileError

RNG = np.random.default_rng(0)
PIXELS = {part: RNG.integers(0, 256, (count, 96, 96, 3), dtype=np.uint8) for part, count in (("train", 3), ("test", 2))}
LABELS = {"train": [1, 10, 4], "test": [7, 1]}
NAMES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def official() -> dict[str, bytes]:
    """Each image plane by plane and, within a plane, column by column."""
    files = {"class_names.txt": "".join(f"{name}\n" for name in NAMES).encode()}
    for part, pixels in PIXELS.items():
        planes = [image[:, column, plane] for image in pixels for plane in range(3) for column in range(96)]
        files[f"{part}_X.bin"] = b"".join(plane.tobytes() for plane in planes)
        files[f"{part}_y.bin"] = bytes(LABELS[part])
    return files | {"unlabeled_X.bin": bytes(2 * 96 * 96 * 3), "fold_indices.txt": b"0 1 2\n"}


FILES = official()


def write(at: Path, **changes: bytes | None) -> Path:
    at.mkdir(parents=True, exist_ok=True)
    for name, data in FILES.items():
        new = changes.get(name.partition(".")[0], data)
        if new is not None:
            (at / name).write_bytes(new)
    return at


def check(dataset: stl10.Dataset) -> None:
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        np.testing.assert_array_equal(split.inputs, PIXELS[part])
        assert split.targets.tolist() == [label - 1 for label in LABELS[part]]
        assert (split.inputs.dtype, split.targets.dtype) == (np.uint8, np.int32)
    assert dataset.classes == NAMES


@pytest.mark.parametrize("place", ["stl10_binary", "stl10/stl10_binary", "stl10", "."])
def test_the_official_files_are_read(tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / place)
    check(stl10.load(tmp_path))
    said = capsys.readouterr().err
    assert "left out unlabeled_X.bin, 2 images without labels" in said
    assert "the train split has 3 images of 96x96x3; the official split has 5,000" in said


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar"])
def test_the_archive_is_read(tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"stl10_binary{suffix}"
    with tarfile.open(path, "w:gz" if suffix == ".tar.gz" else "w") as archive:
        for name, data in FILES.items():
            member = tarfile.TarInfo(f"stl10_binary/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    check(stl10.load(tmp_path))
    assert f"{path}: only images with labels are read" in capsys.readouterr().err
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(BadFileError, match=f"{path} is a damaged archive"):
        stl10.load(tmp_path)


def test_class_names_are_known_without_their_file(tmp_path: Path) -> None:
    write(tmp_path, class_names=None)
    assert stl10.load(tmp_path).classes == NAMES


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test_X": None}, "lacks test_X.bin; stl10 needs all of"),
        ({"test_X": FILES["test_X.bin"][:-1]}, "test_X.bin has 55295 bytes; it must be images of 27648 bytes"),
        ({"test_X": b""}, "test_X.bin has 0 bytes"),
        ({"test_X": FILES["train_X.bin"]}, "test_X.bin has 3 images and test_y.bin 2 labels"),
        ({"test_y": bytes([0, 1])}, "test_y.bin has the label 0; labels go from 1 to 10"),
        ({"train_y": bytes([1, 11, 2])}, "train_y.bin has the label 11"),
        ({"class_names": b"cat dog"}, "class_names.txt has 2 names; it must have one for each of 10 classes"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, changes: dict[str, bytes | None], words: str) -> None:
    write(tmp_path / "stl10_binary", **changes)
    with pytest.raises(BadFileError, match=words):
        stl10.load(tmp_path)


def test_where_it_comes_from_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=rf"not fetched: get http\S+stl10_binary.tar.gz .* into {tmp_path}"):
        stl10.load(tmp_path)
