"""SVHN in MATLAB files of the official layout: read, refused and fetched."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback import Server, remote
from scipy.io import savemat

from supermask.datasets import svhn
from supermask.errors import BadFileError, UsageError

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERMASK_OFFLINE", "1")


def mat(images: np.ndarray, labels: Any, **options: Any) -> bytes:
    """As the authors wrote them: pixels with the examples last, labels as a column of 1 to 10, compressed."""
    out = io.BytesIO()
    content = {"X": np.moveaxis(images, 0, 3), "y": np.array(labels, np.uint8)[:, None]}
    savemat(out, content, do_compression=True, **options)
    return out.getvalue()


def images(count: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, *(shape or (32, 32, 3))), dtype=np.uint8)


PIXELS = {"train": images(4), "test": images(3), "extra": images(2)}
LABELS = {"train": [10, 1, 9, 2], "test": [10, 5, 5], "extra": [3, 10]}
FILES = {f"{part}_32x32.mat": mat(PIXELS[part], LABELS[part]) for part in PIXELS}


def write(at: Path, *parts: str) -> Path:
    at.mkdir(parents=True, exist_ok=True)
    for part in parts:
        (at / f"{part}_32x32.mat").write_bytes(FILES[f"{part}_32x32.mat"])
    return at


@pytest.mark.parametrize("place", ["svhn", "SVHN", "."])
def test_the_official_files_are_read(tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / place, "train", "test")
    dataset = svhn.load(tmp_path)
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        np.testing.assert_array_equal(split.inputs, PIXELS[part])
        assert split.targets.tolist() == [label % 10 for label in LABELS[part]]
        assert (split.inputs.dtype, split.targets.dtype) == (np.uint8, np.int32)
    assert dataset.classes == tuple("0123456789")
    np.testing.assert_allclose(dataset.mean, (PIXELS["train"] / 255).mean((0, 1, 2)))
    assert "has 4 images of 32x32x3; the official file has 73,257" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["svhn", "svhn-extra", "."])
def test_extra_images_are_added_to_train(tmp_path: Path, place: str) -> None:
    write(tmp_path / "svhn", "train", "test")
    write(tmp_path / place, "extra")
    dataset = svhn.load(tmp_path, "extra")
    np.testing.assert_array_equal(dataset.train.inputs, np.concatenate([PIXELS["train"], PIXELS["extra"]]))
    assert dataset.train.targets.tolist() == [0, 1, 9, 2, 3, 0]
    assert len(dataset.test) == 3
    assert len(svhn.load(tmp_path).train) == 4


def test_another_argument_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes only 'extra' after a colon, got 'svhn:more'"):
        svhn.load(tmp_path, "more")


def damage() -> list[tuple[bytes, str]]:
    good = FILES["test_32x32.mat"]
    swapped, lacking = io.BytesIO(), io.BytesIO()
    savemat(swapped, {"X": PIXELS["test"], "y": np.ones((3, 1), np.uint8)})
    savemat(lacking, {"images": PIXELS["test"]})
    floats = io.BytesIO()
    savemat(floats, {"X": np.moveaxis(PIXELS["test"] / 255, 0, 3), "y": np.ones((3, 1), np.uint8)})
    return [
        (good[:-20], "not a MATLAB file that can be read"),
        (good[: len(good) // 2], r"lacks y \(it has X\).*is it whole\?"),
        (b"", "not a MATLAB file that can be read"),
        (b"<html>" * 100, "not a MATLAB file that can be read"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(400), "version 7.3"),
        (mat(PIXELS["test"], [1, 2, 11]), "has the label 11; labels go from 1 to 10"),
        (mat(PIXELS["test"], [1, 2, 0]), "has the label 0; labels go from 1 to 10"),
        (mat(PIXELS["test"], [1, 2]), "has 3 images and 2 labels"),
        (mat(images(3, 28, 28, 3), [1, 2, 3]), "X has the shape 28x28x3x3; it must be 32x32x3xN"),
        (swapped.getvalue(), "X has the shape 3x32x32x3"),
        (lacking.getvalue(), r"lacks X and y \(it has images\)"),
        (floats.getvalue(), "X is float64 and y uint8; X must be uint8"),
    ]


@pytest.mark.parametrize(("data", "words"), damage())
def test_damaged_files_are_named(tmp_path: Path, data: bytes, words: str) -> None:
    path = write(tmp_path / "svhn", "train") / "test_32x32.mat"
    path.write_bytes(data)
    with pytest.raises(BadFileError, match=rf"^{path}.*{words}.*$"):
        svhn.load(tmp_path)


def test_random_damage_is_refused_or_harmless(tmp_path: Path) -> None:
    good = FILES["test_32x32.mat"]
    path = write(tmp_path / "svhn", "train") / "test_32x32.mat"
    refused = 0
    for _ in range(60):
        data = bytearray(good)
        data[RNG.integers(len(data))] ^= 1 << RNG.integers(8)
        path.write_bytes(data)
        try:
            svhn.load(tmp_path)
        except BadFileError:
            refused += 1
    assert refused > 30


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=rf"svhn is not in {tmp_path}.*housenumbers/train_32x32.mat, test_32x32.mat"):
        svhn.load(tmp_path)
    write(tmp_path / "svhn", "train")
    with pytest.raises(BadFileError, match=r"svhn lacks test_32x32.mat; svhn needs train_32x32.mat and test_32x32.mat"):
        svhn.load(tmp_path)
    write(tmp_path / "svhn", "test")
    with pytest.raises(BadFileError, match=r"svhn:extra is not in .*extra_32x32.mat"):
        svhn.load(tmp_path, "extra")


def test_files_are_fetched_once_and_only_those_that_are_missing(
    tmp_path: Path, serve: Callable[[dict[str, bytes]], Server]
) -> None:
    server = serve({f"/bad/{name}": b"<html>" for name in FILES} | {f"/{name}": data for name, data in FILES.items()})
    train, test, extra = (remote(f"{part}_32x32.mat", FILES[f"{part}_32x32.mat"]) for part in PIXELS)
    mirrors = (f"{server.url}bad/", server.url)
    source = dataclasses.replace(svhn.load, files=(train, test), more=extra, mirrors=mirrors)
    assert len(source(tmp_path).train) == 4
    assert server.asked == ["/bad/train_32x32.mat", "/train_32x32.mat", "/test_32x32.mat"]
    assert len(source(tmp_path, "extra").train) == 6
    assert server.asked[3:] == ["/bad/extra_32x32.mat", "/extra_32x32.mat"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["svhn", "svhn-extra"]
    assert len(source(tmp_path, "extra").train) == 6
    assert len(server.asked) == 5
