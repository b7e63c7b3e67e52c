"""Image files that are decoded when they are needed: the pixels of a folder that is read at once, in any process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from supermask.data.source import of_dataset
from supermask.datasets import _files, folder
from supermask.datasets._lazy import Files
from supermask.errors import BadFileError, SupermaskError
from supermask.runtime import memory

RNG = np.random.default_rng(0)


def fill(root, sizes=((9, 7),), mode="RGB", count=5, suffix=".png"):
    """`count` images of each of two classes in train, and two in test; their sizes take turns."""
    for part, number in (("train", count), ("test", 2)):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for i in range(number):
                height, width = sizes[i % len(sizes)]
                pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).convert(mode).save(root / part / name / f"{i}{suffix}")
    return root


def load(root, limit="1GB", workers="0", **more):
    with memory.using(memory.LIMIT, limit), memory.using(memory.WORKERS, workers):
        return folder.load(root, str(root), **more)


@pytest.mark.parametrize("workers", ["0", "1", "2"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mode": "L"},
        {"mode": "RGBA"},
        {"sizes": ((9, 7), (12, 5), (4, 4))},
        {"suffix": ".jpg"},
    ],
    ids=["one size", "grey", "with alpha", "mixed sizes", "JPEG"],
)
def test_pixels_mean_and_fingerprint_are_those_of_a_resident_folder(tmp_path, settings, workers):
    size = 8 if "sizes" in settings else None
    root = fill(tmp_path, **settings, count=40)  # more than one request
    whole, lazy = load(root, image_size=size), load(root, limit="1kB", workers=workers, image_size=size)
    assert isinstance(lazy.train.inputs, Files)
    assert isinstance(whole.train.inputs, np.ndarray)
    for name in ("train", "test"):
        one, other = getattr(whole, name), getattr(lazy, name)
        assert other.inputs.shape == one.inputs.shape
        assert other.inputs.nbytes == one.inputs.nbytes
        np.testing.assert_array_equal(other.inputs[:], one.inputs)
        np.testing.assert_array_equal(other.targets, one.targets)
    assert (lazy.mean, lazy.std) == (whole.mean, whole.std)
    assert of_dataset(lazy) == of_dataset(whole)


def test_indexing_is_that_of_an_array(tmp_path):
    root = fill(tmp_path)
    whole, lazy = load(root).train.inputs, load(root, limit="0").train.inputs
    for index in (3, -1, slice(2, 5), slice(0, 0), [4, 1, 1], np.array([0]), np.arange(10) % 2 == 0):
        np.testing.assert_array_equal(lazy[index], whole[index])
    with pytest.raises(IndexError):
        lazy[10]
    np.testing.assert_array_equal(lazy.take(np.array([7, 2]))[:], whole[[7, 2]])
    with pytest.raises(TypeError, match="read in pieces"):
        np.asarray(lazy)


def test_resizing_images_of_one_size_is_that_of_a_resident_folder(tmp_path):
    from supermask.data import augment

    root = fill(tmp_path)
    whole, lazy = load(root).train.inputs, load(root, limit="0").train.inputs
    np.testing.assert_array_equal(lazy.resized(6)[:], augment.resize(whole, 6))


def test_what_is_said_of_a_folder_is_said_of_one_that_streams(tmp_path, capsys):
    root = fill(tmp_path, sizes=((9, 7), (12, 5)))
    pixels = np.zeros((6, 6, 4), np.uint8)
    for part in ("train", "test"):
        Image.fromarray(pixels).save(root / part / "cat" / "clear.png")
    (root / "train" / "notes.txt").write_text("x")
    load(root, image_size=8)
    said = capsys.readouterr().err
    assert "2 images: transparent pixels are put on white" in said
    load(root, limit="0", image_size=8)
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("workers", ["0", "1"])
def test_an_image_that_became_unreadable_is_named(tmp_path, workers):
    root = fill(tmp_path)
    lazy = load(root, limit="0", workers=workers).train.inputs
    bad = root / "train" / "dog" / "1.png"
    bad.write_bytes(bad.read_bytes()[:60])
    with pytest.raises(BadFileError, match=f"cannot read the image {bad}"):
        lazy[5:]
    np.testing.assert_array_equal(lazy[:2].shape, (2, 9, 7, 3))  # and all others can still be read


def test_damaged_images_are_refused_at_once(tmp_path):
    bad = fill(tmp_path) / "test" / "dog" / "1.png"
    bad.write_bytes(bad.read_bytes()[:60])
    for limit in ("0", "1GB"):
        with pytest.raises(BadFileError, match=f"cannot read the image {bad}"):
            load(tmp_path, limit=limit)


def test_many_files_are_looked_at_by_all_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "MANY", 5)
    root = fill(tmp_path, sizes=((9, 7), (12, 5)), count=40)
    whole, found = load(root, image_size=8), load(root, workers="2", image_size=8)
    np.testing.assert_array_equal(found.train.inputs, whole.train.inputs)
    with pytest.raises(BadFileError) as here:
        load(root)
    with pytest.raises(BadFileError) as there:
        load(root, workers="2")
    assert str(here.value) == str(there.value)


def test_a_dataset_that_takes_hours_to_decode_is_known_by_some_of_it(tmp_path, monkeypatch, capsys):
    root = fill(tmp_path, count=40)
    total = sum(path.stat().st_size for path in root.rglob("*.png"))
    whole = load(root, limit="0")
    monkeypatch.setattr(_files, "DECODED", total // 4)
    some = load(root, limit="0")
    assert "mean and deviation are those of 20 of 80 training images" in capsys.readouterr().err
    assert some.mean != whole.mean
    np.testing.assert_allclose(some.mean, whole.mean, atol=0.05)
    known = of_dataset(some)
    assert {"train files", "test files"} < set(known)
    assert "train images" not in known
    # Another folder with files of the same names and sizes is the same one; a longer file makes it another one.
    assert of_dataset(load(root, limit="0")) == known
    with (root / "test" / "dog" / "1.png").open("ab") as file:
        file.write(b"\0")
    changed = of_dataset(load(root, limit="0"))
    assert {key for key in known if changed[key] != known[key]} == {"test files"}


# --- processes ------------------------------------------------------------------------------------------------------


SCRIPT = """
import os, sys, time
from pathlib import Path
from supermask.datasets import folder
images = folder.load(Path("."), sys.argv[1]).train.inputs
images[:3]
print(*[process.pid for process in images._pool._started], "jax" in sys.modules, flush=True)
{then}
"""


def started(root, then):
    """A process that reads images by two workers, and the workers' numbers; its main module is no script to import."""
    surroundings = os.environ | {memory.LIMIT: "0", memory.WORKERS: "2"}
    words = [sys.executable, "-c", SCRIPT.format(then=then), str(root)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings)
    *numbers, jax = process.stdout.readline().split()
    assert jax == "False"
    return process, [int(number) for number in numbers]


def alive(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=10):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_process_that_started_them_however_it_ends(tmp_path, number):
    process, workers = started(fill(tmp_path), "while True: images[:]")
    assert len(workers) == 2
    assert all(map(alive, workers))
    process.send_signal(number)
    said = process.communicate(timeout=20)[1]
    assert wait_for(lambda: not any(map(alive, workers)))
    assert "worker" not in said.replace("_worker", "")  # but for the frames of a traceback, nothing of theirs
    if number != signal.SIGINT:
        assert said == ""


@needs_proc
def test_signals_for_the_whole_group_leave_the_workers_to_the_process_that_started_them(tmp_path):
    process, workers = started(fill(tmp_path), "time.sleep(0.5); print(images[:].shape)")
    for worker in workers:
        assert os.getpgid(worker) != os.getpgid(process.pid)  # so that Ctrl-C does not reach it
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            os.kill(worker, number)
    assert process.communicate(timeout=20) == ("(10, 9, 7, 3)\n", "")
    assert not any(map(alive, workers))


@needs_proc
def test_a_worker_that_is_killed_is_an_error_of_one_line(tmp_path):
    lazy = load(fill(tmp_path), limit="0", workers="1").train.inputs
    lazy[:1]
    [process] = lazy._pool._started
    process.kill()
    with pytest.raises(SupermaskError, match="ended with code -9, perhaps for lack of memory: try fewer --workers"):
        lazy[:]


@needs_proc
def test_workers_end_with_the_dataset(tmp_path):
    dataset = load(fill(tmp_path), limit="0", workers="2")
    dataset.train.inputs[:1]
    numbers = [process.pid for process in dataset.train.inputs._pool._started]
    assert all(map(alive, numbers))
    del dataset
    assert wait_for(lambda: not any(map(alive, numbers)))
