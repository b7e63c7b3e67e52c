"""supermask data: what it lists, fetches and verifies, and where it says that files lie."""

from __future__ import annotations

import dataclasses
import gzip
import json
import struct
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
from loopback import Server, remote

from supermask import registry
from supermask.cli import main
from supermask.datasets import digits, mnist

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture
def call(capsys):
    """Run a command: (exit code, stdout, stderr)."""

    def run(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["data", *map(str, words)])
        return (ended.value.code or 0, *capsys.readouterr())

    return run


def idx_files():
    """Six and three images of 4x5 pixels, as MNIST has them."""
    labels = np.array([0, 1, 1, 9, 2, 1], np.uint8)
    arrays = (np.arange(120, dtype=np.uint8).reshape(6, 4, 5), labels, np.zeros((3, 4, 5), np.uint8), labels[:3])
    return {
        f"{name}.gz": gzip.compress(
            bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
        )
        for name, array in zip(NAMES, arrays, strict=True)
    }


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def official(monkeypatch):
    """The content of files that count as the official ones of MNIST."""
    files = idx_files()
    source = dataclasses.replace(mnist.load, files=tuple(remote(name, data) for name, data in files.items()))
    monkeypatch.setattr(mnist, "load", source)
    return files


def test_list_has_every_dataset(tmp_path, call):
    folder = write(tmp_path / "MNIST" / "raw", idx_files())
    code, out, err = call("list", "--data-dir", tmp_path, "--json")
    assert (code, err) == (0, "")
    rows = {row["dataset"].partition(":")[0].rstrip("["): row for row in map(json.loads, out.splitlines())}
    assert tuple(rows) == registry.names("datasets")
    found = rows["mnist"]
    assert (found["train"], found["test"], found["image"], found["classes"]) == (60_000, 10_000, [28, 28, 1], 10)
    assert sorted(found["paths"]) == sorted(str(path) for path in folder.iterdir())
    assert found["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    assert found["is_fetched"]
    assert (rows["stl10"]["paths"], rows["stl10"]["bytes"], rows["stl10"]["is_fetched"]) == ([], None, False)
    assert rows["npz"]["dataset"] == "npz:PATH"
    code, out, err = call("list", "--data-dir", tmp_path)
    assert (code, err) == (0, "")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert lines["mnist"].endswith(str(folder))
    assert lines["svhn[:extra]"].endswith("not here; fetched when used")
    assert lines["imagenet"].split()[1:5] == ["1,281,167", "50,000", "any", "1,000"]
    assert lines["stl10"].endswith("not here; yours to get")


def test_list_says_what_is_incomplete_and_goes_on(tmp_path, call):
    write(tmp_path / "mnist", {"train-images-idx3-ubyte.gz": b""})
    code, out, err = call("list", "--data-dir", tmp_path, "--json")
    assert code == 0
    assert len(out.splitlines()) == len(registry.names("datasets"))
    assert f"{tmp_path / 'mnist'} lacks train-labels-idx1-ubyte.gz" in err


MADE = ("addition", "dyck", "induction", "modadd", "parity", "recall")


@pytest.mark.parametrize("name", MADE)
def test_sequences_that_are_made_have_no_place_and_can_be_verified(name, call):
    code, out, err = call("where", name)
    assert (out, err.endswith("it is made when it is used\n")) == ("", True)
    assert code in (2, 3)
    code, out, err = call("verify", {"modadd": "modadd:7"}.get(name, name), "--json")
    assert code == 0
    assert json.loads(out)["splits"]["train"]["examples"] > 0


@pytest.mark.parametrize("name", [name for name in registry.names("datasets") if name not in (*MADE, "digits")])
def test_what_is_not_there_is_said_by_every_dataset(name, tmp_path, call, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    argument = {"npz": ":none.npz", "folder": ":none", "hf": ":none", "medmnist": ":none", "tokens": ":none"}.get(
        name, ""
    )
    for action in ("where", "verify"):
        code, out, err = call(action, name + argument, "--data-dir", tmp_path)
        assert (code, out, len(err.splitlines())) == (3, "", 1), err
        assert "OFFLINE" not in err
        assert "get" in err or "does not exist" in err


def test_where_prints_what_is_read(tmp_path, call, monkeypatch):
    folder = write(tmp_path / "mnist", idx_files())
    assert call("where", "mnist", "--data-dir", tmp_path) == (0, f"{folder}\n", "")
    arrays = {f"{part}_{content}": np.zeros(1) for part in ("train", "val", "test") for content in ("images", "labels")}
    np.savez(tmp_path / "bloodmnist.npz", **arrays)
    for name in ("medmnist:bloodmnist", "npz:bloodmnist.npz"):
        assert call("where", name, "--data-dir", tmp_path) == (0, f"{tmp_path / 'bloodmnist.npz'}\n", "")
    code, out, err = call("where", "digits")
    assert (code, err) == (0, "")
    assert Path(out.strip()).is_file()


def test_verify_counts_what_is_there(tmp_path, call, official):
    folder = write(tmp_path / "mnist", official)
    code, out, err = call("verify", "mnist", "--data-dir", tmp_path, "--json")
    [found] = map(json.loads, out.splitlines())
    assert code == 0
    assert found["splits"] == {
        "train": {"examples": 6, "shape": [4, 5, 1], "labels": [0, 9], "per_class": [0, 3]},
        "test": {"examples": 3, "shape": [4, 5, 1], "labels": [0, 1], "per_class": [0, 2]},
    }
    assert found["classes"] == 10
    assert found["official"] == [str(folder / name) for name in official]
    code, out, err = call("verify", "mnist", "--data-dir", tmp_path)
    assert code == 0
    assert f"mnist in {folder}: 10 classes" in out
    assert "as published, by SHA-256: train-images-idx3-ubyte.gz" in out
    assert "the official file has 60,000 of 28x28x1" in err


def test_a_dataset_without_files_is_listed_and_verified(tmp_path, call, monkeypatch):
    module = types.ModuleType("supermask.datasets.stripes")
    module.load = lambda data_dir, argument="": digits.load(data_dir)
    real = registry.load
    entry = registry.Entry("stripes", "Made here.", {"EPOCHS": 1, "AUGMENT": "none"})
    monkeypatch.setattr(registry, "names", lambda kind: ("stripes",))
    monkeypatch.setattr(registry, "describe", lambda kind, name: entry)
    monkeypatch.setattr(registry, "load", lambda kind, name: module if name == "stripes" else real(kind, name))
    code, out, err = call("list", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["is_made"]
    assert call("list")[1].splitlines()[1].split("  ")[-1] == "made when used"
    assert call("verify", "stripes")[0] == 0
    code, out, err = call("where", "stripes")
    assert (code, out) == (2, "")
    assert "stripes has no files" in err


def test_verify_finds_damage(tmp_path, call, official):
    """A pixel, which nothing but the hash shows, and a file that is cut."""
    folder = write(tmp_path / "mnist", official)
    path = folder / "train-images-idx3-ubyte.gz"
    plain = bytearray(gzip.decompress(official[path.name]))
    header = bytearray(official[path.name])
    header[4:8] = b"\1\2\3\4"  # the time in the gzip header, which no reader looks at
    path.write_bytes(header)
    code, out, err = call("verify", "mnist", "--data-dir", tmp_path)
    assert (code, out) == (3, "")
    assert f"{path} is damaged: it has the size of the official file but another SHA-256" in err
    plain[20] ^= 1
    path.write_bytes(gzip.compress(plain) + b"\0")
    code, out, err = call("verify", "mnist", "--data-dir", tmp_path)
    assert code == 0
    assert "is not the official file" in err
    path.write_bytes(official[path.name][:40])
    code, out, err = call("verify", "mnist", "--data-dir", tmp_path)
    assert (code, out) == (3, "")
    assert str(path) in err


def test_verify_of_a_folder_names_the_image_that_cannot_be_read(tmp_path, call):
    from PIL import Image

    for part in ("train", "test"):
        for level, name in enumerate(("cat", "dog")):
            (tmp_path / "set" / part / name).mkdir(parents=True)
            Image.new("L", (8 + level, 8), level).save(tmp_path / "set" / part / name / "1.png")
    code, out, err = call("verify", f"folder:{tmp_path / 'set'}")
    assert (code, out) == (3, "")
    assert "--image-size" in err
    assert call("verify", f"folder:{tmp_path / 'set'}", "--image-size", "8")[0] == 0
    broken = tmp_path / "set" / "test" / "dog" / "1.png"
    broken.write_bytes(b"rubbish")
    code, out, err = call("verify", f"folder:{tmp_path / 'set'}", "--image-size", "8")
    assert (code, out) == (3, "")
    assert f"cannot read the image {broken}" in err


def test_fetch_gets_what_is_missing_and_nothing_else(tmp_path, call, official, monkeypatch):
    monkeypatch.delenv("SUPERMASK_OFFLINE")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server({f"/{name}": data for name, data in official.items()})
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setattr(mnist, "load", dataclasses.replace(mnist.load, mirrors=(server.url,)))
    for fetched in (True, False):
        code, out, _ = call("fetch", "mnist", "digits", "--data-dir", tmp_path, "--json")
        first, second = map(json.loads, out.splitlines())
        assert code == 0
        assert (first["dataset"], first["fetched"], second["fetched"]) == ("mnist", fetched, False)
        assert first["paths"] == [str(tmp_path / "mnist" / name) for name in official]
        assert first["bytes"] == sum(map(len, official.values()))
    assert len(server.asked) == 4
    server.shutdown()
    server.server_close()


def test_fetch_of_what_is_not_fetched_says_where_it_comes_from(tmp_path, call):
    code, out, err = call("fetch", "stl10", "--data-dir", tmp_path)
    assert (code, out) == (3, "")
    assert "is not fetched: get http://ai.stanford.edu" in err
    code, out, err = call("fetch", "mnist", "--data-dir", tmp_path)  # there is no network in tests
    assert (code, out) == (3, "")
    assert "SUPERMASK_OFFLINE is set" in err


@pytest.mark.parametrize(
    ("words", "say"),
    [
        (["lst"], "did you mean list?"),
        (["where", "mnst"], "did you mean mnist?"),
        (["fetch"], "NAME"),
        (["where", "npz"], "npz:PATH"),
        (["where", "own.module:load"], "only the code of own.module:load knows"),
        (["verify", "digits", "--image-size", "0"], "--image-size"),
        (["verify", "digits", "--image-size", "8"], "leave out --image-size"),
    ],
)
def test_wrong_words_are_refused(words, say, call):
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert say in err


def test_none_of_it_imports_jax(tmp_path):
    code = """
import sys
from supermask.cli import main
for words in (["list"], ["where", "digits"], ["verify", "digits"], ["fetch", "digits"]):
    try:
        main(["data", *words])
    except SystemExit as ended:
        assert not ended.code, words
print(sorted({"jax", "flax", "optax", "sklearn", "scipy", "PIL"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"
