"""Where data lies, and the fingerprints of what is in it."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from supermask.config import SearchConfig
from supermask.data.source import Source, of_dataset, of_files
from supermask.data.splits import find_path
from supermask.errors import BadFileError
from supermask.types import Dataset, Split


def split(count, value=7):
    return Split(np.full((count, 4, 4, 1), value, np.uint8), np.arange(count, dtype=np.int32) % 2)


DATA = Dataset(split(6), split(4), ("a", "b"), (0.5,), (0.25,))
CHANGES = {
    "train images": replace(DATA, train=split(6, 8)),
    "train labels": replace(DATA, train=replace(DATA.train, targets=DATA.train.targets[::-1].copy())),
    "test images": replace(DATA, test=replace(DATA.test, inputs=DATA.test.inputs.reshape(4, 2, 8, 1))),
    "test labels": replace(DATA, test=replace(DATA.test, targets=1 - DATA.test.targets)),
    "validation images": replace(DATA, validation=split(2)),
    "classes": replace(DATA, classes=("b", "a")),
    "means": replace(DATA, mean=(0.4,)),
    "deviations": replace(DATA, std=(0.4,)),
    "task": replace(DATA, task="other"),
}


@pytest.mark.parametrize("key", CHANGES)
def test_every_part_of_a_dataset_counts(key):
    one, other = of_dataset(DATA), of_dataset(CHANGES[key])
    expected = {key, "validation labels"} if key == "validation images" else {key}
    assert {name for name in one if one[name] != other[name]} == expected


def test_how_arrays_lie_in_memory_has_no_say():
    images = np.asfortranarray(DATA.train.inputs)
    assert of_dataset(replace(DATA, train=replace(DATA.train, inputs=images))) == of_dataset(DATA)


def save(path, value=7, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    images = np.full((8, 4, 4), value, np.uint8)
    images[:, 0, 0] = range(8)
    arrays = {"x_train": images, "y_train": np.arange(8) % 2, "x_test": images, "y_test": np.arange(8) % 2}
    np.savez(path, **arrays, **more)


def source(dataset, data_dir=None):
    return Source(SearchConfig(dataset=dataset), data_dir)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUPERMASK_DATA_DIR", raising=False)
    return tmp_path


def test_other_files_may_hold_the_same_data(here):
    save(here / "one.npz")
    save(here / "two.npz", unread=np.zeros(3))
    one, two = source("npz:one.npz"), source("npz:two.npz")
    assert one.files != two.files
    assert one.data == two.data
    assert one.named == one.files
    save(here / "two.npz", value=8)
    assert source("npz:two.npz").data != one.data


def test_what_is_built_in_has_no_fingerprint_in_its_name():
    assert source("digits").named == {}
    assert source("digits").data["train images"].startswith("1437x8x8x1 ")


def folder(root):
    for name in ("train/a/1.png", "train/b/2.png", "test/a/3.png", "test/b/4.png"):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return root


def test_a_folder_is_known_by_names_and_contents(here):
    found = of_files(folder(here / "one"))
    for change, same in {
        "dates": lambda root: os.utime(root / "train/a/1.png", (1, 1)),
        "hidden": lambda root: (root / "train/a/.DS_Store").write_text("x"),
        "beside": lambda root: (root / "README").write_text("x"),
        "a run": lambda root: ((root / "runs/x").mkdir(parents=True), (root / "runs/x/metrics.jsonl").write_text("x")),
        "a loop": lambda root: (root / "train/a/loop").symlink_to(root),
    }.items():
        same(folder(here / change))
        assert of_files(here / change) == found, change
    for change, other in {
        "content": lambda root: (root / "train/a/1.png").write_text("TRAIN/a/1.png"),
        "name": lambda root: (root / "train/a/1.png").rename(root / "train/a/2.png"),
        "class": lambda root: (root / "train/a").rename(root / "train/c"),
        "one less": lambda root: (root / "train/a/1.png").unlink(),
        "a split without a folder": lambda root: (root / "train-00000-of-00001.parquet").write_text("x"),
    }.items():
        other(folder(here / change))
        assert of_files(here / change) != found, change
    shutil.move(here / "one", here / "moved")
    assert of_files(here / "moved") == found


def test_a_relative_path_is_looked_for_here_then_in_the_folder_of_datasets(here, monkeypatch):
    save(here / "data/sub/x.npz")
    assert find_path("npz:sub/x.npz", Path("data")) == Path("data/sub/x.npz")
    monkeypatch.setenv("SUPERMASK_DATA_DIR", "data")
    assert find_path("npz:sub/x.npz") == Path("data/sub/x.npz")
    save(here / "sub/x.npz")
    assert find_path("npz:sub/x.npz", Path("data")) == Path("sub/x.npz")
    assert find_path("digits") is find_path("own.module:load") is find_path("npz:") is None


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_data_that_is_nowhere_says_where_it_was_looked_for(here, kind):
    with pytest.raises(BadFileError, match=r"^x does not exist, neither here nor in data$"):
        source(f"{kind}:x", Path("data")).files  # noqa: B018
    with pytest.raises(BadFileError, match=r"^/x does not exist$"):
        source(f"{kind}:/x", Path("data")).data  # noqa: B018


def test_no_jax_is_needed(here):
    save(here / "x.npz")
    code = """
import sys
from supermask.config import SearchConfig
from supermask.data.source import Source
source = Source(SearchConfig(dataset="npz:x.npz"))
assert source.named and source.content
print(sorted({"jax", "flax", "optax"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
