"""Hugging Face's image datasets in Parquet files: folders, columns, classes, and everything that can be wrong."""

from __future__ import annotations

import builtins
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from supermask.datasets import hf
from supermask.errors import BadFileError, SupermaskError, UsageError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

RNG = np.random.default_rng(0)
NAMES = ("cat", "dog", "fox")
PIXELS = {part: RNG.integers(0, 256, (count, 6, 5, 3), dtype=np.uint8) for part, count in (("train", 4), ("test", 3))}
PIXELS["validation"] = RNG.integers(0, 256, (2, 6, 5, 3), dtype=np.uint8)
LABELS: dict[str, list[Any]] = {"train": [2, 0, 1, 2], "test": [1, 1, 0], "validation": [0, 2]}
FEATURES: dict[str, Any] = {"image": {"_type": "Image"}, "label": {"names": list(NAMES), "_type": "ClassLabel"}}


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def table(part: str, rows: slice = slice(None), **changes: Any) -> Any:
    """As `datasets` writes it: a struct of bytes and path, int64, and the features in the schema's metadata.

    Further columns replace those of the same name; None removes one.
    """
    cells = [{"bytes": png(pixels), "path": f"{row}.png"} for row, pixels in enumerate(PIXELS[part][rows])]
    features, as_bytes = changes.pop("features", FEATURES), changes.pop("as_bytes", False)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([cell["bytes"] for cell in cells]) if as_bytes else pa.array(cells, kind)
    columns = {"image": images, "label": pa.array(LABELS[part][rows], pa.int64())} | changes
    found = pa.table({name: column for name, column in columns.items() if column is not None})
    metadata = {"info": {"features": features}}
    return found.replace_schema_metadata({"huggingface": json.dumps(metadata)} if features is not None else None)


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content, path)
    return path


def write_parts(root: Path, pattern: str = "{part}-00000-of-00001.parquet", **options: Any) -> Path:
    for part in PIXELS:
        write(root / pattern.format(part=part), table(part, **options))
    return root


def check(dataset: hf.Dataset) -> None:
    for part in PIXELS:
        split = getattr(dataset, part)
        np.testing.assert_array_equal(split.inputs, PIXELS[part])
        assert split.targets.tolist() == LABELS[part]
        assert (split.inputs.dtype, split.targets.dtype) == (np.uint8, np.int32)


@pytest.mark.parametrize(
    "pattern",
    [
        "{part}-00000-of-00001.parquet",
        "{part}-00000-of-00001-5af744adb8610bf6.parquet",
        "data/{part}-00000-of-00001.parquet",
        "plain_text/{part}-00000-of-00001.parquet",
        "{part}.parquet",
        "mine-{part}.parquet",
        "default/{part}/0000.parquet",
    ],
)
def test_the_places_of_hugging_face_are_read(tmp_path: Path, pattern: str) -> None:
    dataset = hf.load(tmp_path, str(write_parts(tmp_path / "set", pattern)))
    check(dataset)
    assert dataset.classes == NAMES
    np.testing.assert_allclose(dataset.mean, (PIXELS["train"] / 255).mean((0, 1, 2)))


def test_shards_are_read_in_order(tmp_path: Path) -> None:
    write_parts(tmp_path)
    (tmp_path / "train-00000-of-00001.parquet").unlink()
    for shard, rows in enumerate((slice(0, 1), slice(1, 3), slice(3, 4))):
        write(tmp_path / f"train-0000{shard}-of-00003.parquet", table("train", rows))
    check(hf.load(tmp_path, str(tmp_path)))
    (tmp_path / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(BadFileError, match=r"lacks 1 of 3 files, such as train-00001-of-00003$"):
        hf.load(tmp_path, str(tmp_path))
    write(tmp_path / "train-00000-of-00002.parquet", table("train"))
    with pytest.raises(BadFileError, match=r"has shards of 00002 and of 00003 files; keep one set of them"):
        hf.load(tmp_path, str(tmp_path))


@pytest.mark.parametrize("as_bytes", [False, True])
def test_files_without_metadata_are_read_by_names_and_types(tmp_path: Path, as_bytes: bool) -> None:
    dataset = hf.load(tmp_path, str(write_parts(tmp_path, features=None, as_bytes=as_bytes)))
    check(dataset)
    assert dataset.classes == ("0", "1", "2")


def test_columns_are_those_that_the_metadata_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = {"photo": {"_type": "Image"}, "coarse_label": FEATURES["label"], "fine_label": FEATURES["label"]}
    for part in PIXELS:
        whole = table(part)
        columns = {"photo": whole["image"], "coarse_label": pa.array([0] * len(whole)), "fine_label": whole["label"]}
        write(tmp_path / f"{part}.parquet", table(part, image=None, label=None, features=features, **columns))
    check(hf.load(tmp_path, str(tmp_path)))
    assert "photo and fine_label are read; left out 1 column: coarse_label" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["string", "dictionary"])
def test_classes_may_be_strings(tmp_path: Path, kind: str) -> None:
    for part in PIXELS:
        names = pa.array([NAMES[label] for label in LABELS[part]])
        column = names.dictionary_encode() if kind == "dictionary" else names
        write(tmp_path / f"{part}.parquet", table(part, label=column, features=None))
    dataset = hf.load(tmp_path, str(tmp_path))
    check(dataset)
    assert dataset.classes == NAMES


def test_splits_that_are_missing_or_without_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_parts(tmp_path)
    write(tmp_path / "test-00000-of-00001.parquet", table("test", label=pa.array([-1, -1, -1])))
    write(tmp_path / "more.parquet", table("test"))
    write(tmp_path / ".cache" / "test.parquet", table("test"))
    dataset = hf.load(tmp_path, str(tmp_path))
    np.testing.assert_array_equal(dataset.test.inputs, PIXELS["validation"])
    assert dataset.validation is None
    said = capsys.readouterr().err
    assert "left out test, 3 images without labels (-1)" in said
    assert "validation is the test split" in said
    assert "left out 1 Parquet file of no split: more.parquet" in said
    assert "left out 1 hidden Parquet file" in said
    (tmp_path / "validation-00000-of-00001.parquet").unlink()
    with pytest.raises(BadFileError, match="has only files of train"):
        hf.load(tmp_path, str(tmp_path))
    (tmp_path / "train-00000-of-00001.parquet").unlink()
    with pytest.raises(BadFileError, match=r"has no files of train .*names must begin with train"):
        hf.load(tmp_path, str(tmp_path))


def test_several_datasets_in_a_folder_are_not_mixed(tmp_path: Path) -> None:
    write_parts(tmp_path / "a")
    write_parts(tmp_path / "b")
    with pytest.raises(BadFileError, match="has several datasets, in a, b; give the path of one of them"):
        hf.load(tmp_path, str(tmp_path))
    check(hf.load(tmp_path, str(tmp_path / "a")))


def test_images_of_two_sizes_are_resized(tmp_path: Path) -> None:
    large = png(np.zeros((9, 9, 3), np.uint8))
    write_parts(tmp_path)
    path = write(tmp_path / "test-00000-of-00001.parquet", table("test", image=pa.array([large] * 3)))
    with pytest.raises(BadFileError, match=f"{path}: row 0 is 9x9 pixels .*--image-size"):
        hf.load(tmp_path, str(tmp_path))
    assert hf.load(tmp_path, str(tmp_path), image_size=4).test.inputs.shape == (3, 4, 4, 3)


def other_layouts() -> list[tuple[dict[str, Any], str]]:
    lists = pa.array([[1, 2], [0], [1]])
    paths = pa.array([{"bytes": None, "path": "x.png"}] * 3, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    return [
        ({"image": None}, r"lacks the column image \(it has label\)"),
        ({"label": None}, r"lacks the column label \(it has image\)"),
        ({"label": pa.array([0, 1, 3])}, "has the label 3; with 3 classes, it goes from 0 to 2"),
        ({"label": pa.array([0, -1, 1])}, "has the label -1"),
        ({"label": pa.array([0, None, 1])}, "row 1 has no label"),
        ({"label": pa.array(["a", "b", "c"])}, "label holds strings, but its classes have names"),
        ({"label": lists}, r"label is list<.*>; labels are whole numbers or strings, one for each image"),
        ({"image": paths}, "row 0 has no bytes of an image, only the path 'x.png'"),
        ({"image": pa.array([b"rubbish"] * 3)}, "cannot read the image .*row 0: it is none of PNG"),
        ({"image": pa.array(["a", "b", "c"])}, "row 0 has no bytes of an image"),
    ]


@pytest.mark.parametrize(("changes", "words"), other_layouts())
def test_files_of_another_layout_are_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = write(write_parts(tmp_path) / "test-00000-of-00001.parquet", table("test", **changes))
    with pytest.raises(BadFileError, match=words) as caught:
        hf.load(tmp_path, str(tmp_path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": None}, r"has no column of images \(it has label\)"),
        ({"label": None}, r"has no column of labels \(it has image\)"),
        ({"image": pa.array([1, 2, 3, 4])}, "has no column of images"),
        ({"image": None, "a": pa.array([b"x"] * 4), "b": pa.array([b"x"] * 4)}, "several columns of images: a, b"),
    ],
)
def test_columns_that_cannot_be_told_are_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = write(write_parts(tmp_path) / "train-00000-of-00001.parquet", table("train", features=None, **changes))
    with pytest.raises(BadFileError, match=f"{path} .*{words}"):
        hf.load(tmp_path, str(tmp_path))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    for part in PIXELS:
        path = tmp_path / f"{part}-00000-of-00001.parquet"
        good = write_parts(tmp_path).joinpath(path.name).read_bytes()
        for data in (good[:-10], good[: len(good) // 2], b"", b"<html>" * 50, b"PAR1" + bytes(50) + b"PAR1"):
            path.write_bytes(data)
            with pytest.raises(BadFileError, match=f"{path} is not a Parquet file that can be read"):
                hf.load(tmp_path, str(tmp_path))
    write_parts(tmp_path)
    path.write_bytes(b"")
    write(path, table("validation").slice(0, 0))
    with pytest.raises(BadFileError, match=f"{path} has no rows"):
        hf.load(tmp_path, str(tmp_path))


def test_random_damage_ends_in_our_error_or_a_valid_dataset(tmp_path: Path) -> None:
    path = write_parts(tmp_path) / "test-00000-of-00001.parquet"
    good, refused = path.read_bytes(), 0
    for _ in range(100):
        data = bytearray(good)
        data[RNG.integers(len(data))] = RNG.integers(256)
        path.write_bytes(data)
        try:
            hf.load(tmp_path, str(tmp_path))
        except BadFileError:
            refused += 1
    assert refused > 20


def test_a_folder_that_has_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="hf:PATH"):
        hf.load(tmp_path)
    with pytest.raises(BadFileError, match="does not exist"):
        hf.load(tmp_path, str(tmp_path / "none"))
    with pytest.raises(BadFileError, match="has no Parquet files"):
        hf.load(tmp_path, str(tmp_path))


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parts(tmp_path)
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError(f"No module named {name!r}", name="pyarrow")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(SupermaskError, match=r"^Parquet files need pyarrow: pip install 'supermask\[parquet\]'$"):
        hf.load(tmp_path, str(tmp_path))
