"""Data that streams: the batches, the tickets and the scores are those of resident data, bit for bit."""

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import problem_of, tickets_of, watch
from PIL import Image

import supermask
from supermask.data.ahead import AHEAD, ahead
from supermask.data.feed import Pipeline, Resident
from supermask.data.pieces import Pieces
from supermask.data.streamed import Streamed
from supermask.data.streaming import Streaming, cropped, plan
from supermask.datasets._lazy import Crops, Files
from supermask.engine.saliency import Saliency
from supermask.engine.sharding import Sharding
from supermask.errors import BadFileError, UsageError
from supermask.runtime import memory
from supermask.types import Dataset, Split

pytestmark = pytest.mark.usefixtures("compiled_quickly")

COUNT, BATCH, STEPS = 23, 4, 5
SPLIT = Split(np.arange(COUNT, dtype=np.uint8).reshape(COUNT, 1, 1, 1), np.arange(COUNT, dtype=np.int32))
SMALL = {"arch": "lenet300", "width": 0.1, "epochs": 1, "batch_size": 16, "devices": 1}
TINY = "2kB"


def pipeline():
    order = lambda key, epoch: jax.random.permutation(jax.random.fold_in(key, epoch), COUNT)  # noqa: E731
    return Pipeline(BATCH, STEPS, order, None, lambda images: images.astype(jnp.float32))


def seen(feed, sharding, seeds, epoch, step):
    """Images and labels of each step from `step` on, each of shape (seeds, batch)."""
    keys = sharding.stack_seeds([jax.random.key(seed) for seed in seeds])

    def take(per_seed, shared):
        data, step = shared
        return feed.take(per_seed, data, step, jax.random.key(0), sharding.local_shard)

    program, found = jax.jit(sharding.program(take)), []
    for chunk in feed.chunks(keys, epoch, step):
        for number in range(chunk.start, chunk.stop):
            inputs, targets = program(chunk.per_seed, (chunk.shared, jnp.int32(number)))
            np.testing.assert_array_equal(inputs.reshape(targets.shape), targets)
            found.append(np.asarray(targets))
    return np.array(found)


@pytest.mark.parametrize("length", [1, 2, 3, 5])
@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
def test_chunks_have_the_batches_of_a_resident_split_from_any_step_on(length, seeds):
    sharding = Sharding(seeds=len(seeds))
    feed = Streamed(SPLIT, pipeline(), sharding, Streaming(length * BATCH))
    assert feed.length == length
    for epoch in (1, 3):
        first = (epoch - 1) * STEPS
        expected = seen(Resident(SPLIT, pipeline(), sharding), sharding, seeds, epoch, first)
        for step in (0, 1, 4):
            found = seen(feed, sharding, seeds, epoch, first + step)
            np.testing.assert_array_equal(found, expected[step:])
    assert feed.waited > 0


def test_all_chunks_look_alike_so_that_nothing_is_compiled_twice():
    sharding = Sharding()
    feed = Streamed(SPLIT, pipeline(), sharding, Streaming(2 * BATCH))
    keys = sharding.stack_seeds([jax.random.key(1)])
    shapes = lambda chunk: jax.tree.map(lambda a: (a.shape, a.dtype), (chunk.per_seed, chunk.shared))  # noqa: E731
    assert [shapes(chunk) for chunk in feed.chunks(keys, 1, 0)] == [shapes(feed.blank(keys))] * 3


@pytest.mark.parametrize("size", [4, 8, 24])
def test_pieces_have_each_example_once_and_a_last_one_that_is_filled_up(size):
    pieces = Pieces(SPLIT, size, Sharding())
    images, labels = (np.concatenate(column) for column in zip(*pieces, strict=True))
    assert len(labels) % size == 0
    np.testing.assert_array_equal(labels[:COUNT], SPLIT.targets)
    np.testing.assert_array_equal(images[:COUNT], SPLIT.inputs)
    assert (labels[COUNT:] == -1).all()
    assert {array.shape[0] for array in pieces.blank} == {size}


def test_no_more_is_made_ahead_than_is_needed_and_an_error_reaches_the_caller():
    made = []

    def make(item):
        made.append(item)
        if item == 5:
            raise ValueError("five")
        return item

    found = ahead(make, range(100))
    assert next(found) == 0
    assert [next(found), next(found)] == [1, 2]
    assert len(made) <= 3 + AHEAD
    with pytest.raises(ValueError, match="five"):
        list(found)
    assert len(made) <= 6 + AHEAD


# --- whether data streams -------------------------------------------------------------------------------------------


def dataset(count=64, size=8):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    split = Split(images, np.arange(count, dtype=np.int32) % 2)
    return Dataset(split, split, ("a", "b"), (0.5,) * 3, (0.25,) * 3, split)


def test_data_streams_above_the_limit_and_says_how_much_it_is(monkeypatch, capsys):
    data = dataset()
    total = 3 * data.train.inputs.nbytes
    monkeypatch.setenv(memory.LIMIT, str(total))
    assert plan(data, 16) is None
    assert capsys.readouterr().err == ""
    monkeypatch.setenv(memory.LIMIT, str(total - 1))
    found = plan(data, 16)
    assert found.piece_bytes == (total - 1) // 8
    assert capsys.readouterr().err == (
        "streaming: 192 examples of 8x8, 36.9 kB, over the limit of 36.9 kB; chunks of a batch, from memory\n"
    )
    assert plan(data, 4).batches(4, (8, 8, 3), 16) == (total - 1) // 8 // (4 * 8 * 8 * 3)
    assert "chunks of 5 batches" in capsys.readouterr().err


def test_without_a_limit_arrays_stay_on_a_cpu(monkeypatch):
    monkeypatch.delenv(memory.LIMIT, raising=False)
    assert plan(dataset(), 16) is None


def test_random_crops_stream_always(monkeypatch, capsys):
    monkeypatch.delenv(memory.LIMIT, raising=False)
    data = cropped(dataset(), "random-resized-crop")
    assert isinstance(data.train.inputs, Crops)
    assert isinstance(data.validation.inputs, Crops)
    assert plan(data, 16) is not None
    assert "since random crops are made on the host; chunks of 4 batches, from memory" in capsys.readouterr().err
    same = dataset()
    assert cropped(same, "crop-flip") is same
    tokens = replace(same, train=Split(np.zeros((4, 9), np.int32), same.train.targets[:4]))
    with pytest.raises(UsageError, match="random-resized-crop is for images"):
        cropped(tokens, "random-resized-crop")


# --- results --------------------------------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path):
    """A folder of two classes that a network can tell apart."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 50), ("test", 20)):
        for label, name in enumerate(("dark", "light")):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 200, (9, 9, 3), dtype=np.uint8) + np.uint8(40 * label)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{i}.png")
    return f"folder:{tmp_path}"


class Normed(nnx.Module):
    """A dense layer with batch norm."""

    def __init__(self, image_shape, classes, rngs):
        self.dense = nnx.Linear(math.prod(image_shape), 16, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.head = nnx.Linear(16, classes, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.head(jax.nn.relu(self.norm(self.dense(x.reshape(len(x), -1)))))


@pytest.fixture
def limited(monkeypatch):
    """Set the limit from here on; threads decode."""

    def limit(text):
        monkeypatch.setenv(memory.LIMIT, text)
        monkeypatch.setenv(memory.WORKERS, "0")

    return limit


FIELDS = {
    "two seeds side by side": {"seeds": 2, "devices": 2},
    "sampled masks, augmentation on the device": {"method": "bernoulli", "augment": "crop-flip", "image_size": 8},
    "nothing trained": {"method": "magnitude"},
    "an order of its own": {"method": "fedpm", "options": {"clients": 2, "local_epochs": 1}},
    "each batch three times": {"method": "genetic", "options": {"population": 3, "parents": 1}},
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if n in ("nothing trained", "each batch three times") else pytest.mark.slow)
        for n in FIELDS
    ],
)
def test_a_search_whose_data_streams_ends_in_the_ticket_of_one_whose_data_is_resident(images, limited, name):
    fields = SMALL | FIELDS[name] | {"dataset": images}
    limited("1GB")
    expected = tickets_of(problem_of(**fields))
    limited(TINY)
    problem = problem_of(**fields)
    assert isinstance(problem.dataset.train.inputs, Files)
    assert tickets_of(problem) == expected


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_a_training_whose_data_streams_ends_in_the_weights_of_one_whose_data_is_resident(limited):
    config = supermask.TrainConfig(**SMALL | {"batch_size": 100})
    limited("1GB")
    [expected] = supermask.train(config)
    limited(TINY)
    [found] = supermask.train(config)
    assert found.to_bytes() == expected.to_bytes()


def test_a_snapshot_of_other_files_is_refused(images, limited):
    limited(TINY)
    fields, taken = SMALL | {"dataset": images}, []
    tickets_of(problem_of(**fields), watch(due=lambda epochs_done: True, save=taken.append))
    with next(Path(images.partition(":")[2]).glob("train/*/0.png")).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BadFileError, match="other training images"):
        tickets_of(problem_of(**fields), resume=taken[0])


def test_a_snapshot_goes_on_to_the_same_bytes_with_another_limit(images, limited):
    """From the middle of an epoch, streaming or not."""
    fields = SMALL | {"epochs": 2, "dataset": images}
    limited(TINY)
    problem, taken = problem_of(**fields), []
    whole = tickets_of(problem, watch(due=lambda epochs_done: True, save=taken.append))
    [middle, *_] = [s for s in taken if s.step % problem.pipeline.steps_per_epoch and s.epochs_done == 1]
    assert tickets_of(problem, resume=middle) == whole
    limited("1GB")
    assert tickets_of(problem_of(**fields), resume=middle) == whole


@pytest.mark.slow
def test_batch_statistics_and_scores_are_those_of_resident_data(images, limited):
    fields = {
        "arch": "tests.data.test_streaming:Normed",
        "epochs": 1,
        "batch_size": 16,
        "devices": 1,
        "dataset": images,
    }
    limited("1GB")
    [ticket] = supermask.search(supermask.SearchConfig(**fields))
    expected = [supermask.evaluate(ticket, split=split) for split in ("test", "train")]
    limited(TINY)
    found = [supermask.evaluate(ticket, split=split) for split in ("test", "train")]
    assert [(one.accuracy, one.loss, one.reproduced) for one in found] == [
        (one.accuracy, one.loss, True) for one in expected
    ]
    [streamed] = supermask.search(supermask.SearchConfig(**fields))
    assert streamed.to_bytes() == ticket.to_bytes()


def test_a_method_that_looks_at_images_first_sees_the_same_ones(images, limited):
    found = []
    for text in ("1GB", TINY):
        limited(text)
        problem = problem_of(**SMALL | {"dataset": images, "method": "snip"})
        found.append(Saliency(problem).gradient(3, problem.weights(3)))
    for name in found[0]:
        np.testing.assert_array_equal(found[0][name], found[1][name])


@pytest.mark.slow  # what forgetting does with images is what any evaluation does
def test_forgetting_is_measured_as_on_resident_data(limited, tmp_path):
    config = supermask.ForgetConfig(**SMALL | {"batch_size": 400, "generations": 1, "probe": True, "label_noise": 0.1})
    limited("1GB")
    expected = supermask.forget(config, run=tmp_path / "resident")
    limited(TINY)
    found = supermask.forget(config, run=tmp_path / "streamed")
    own = ("data_wait", "weights", "run", "images_per_second", "compile_seconds", "train_seconds")
    for one, other in zip(expected, found, strict=True):
        assert {key: value for key, value in other.items() if key not in own} == {
            key: value for key, value in one.items() if key not in own
        }


def test_a_ticket_is_evaluated_where_its_data_is_too_large_to_be_decoded_first(images, limited, monkeypatch):
    limited("1GB")
    [ticket] = supermask.search(supermask.SearchConfig(**SMALL, dataset=images))
    limited(TINY)
    monkeypatch.setattr("supermask.datasets._files.DECODED", 5000)
    found = supermask.evaluate(ticket)
    assert found.reproduced  # normalised as the ticket's images were
    [note] = found.notes
    assert note.startswith("note: the images of test and train were not compared with the ticket's")


# --- random crops ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_crops_of_an_epoch_do_not_depend_on_how_it_is_cut(images, limited):
    fields = SMALL | {"dataset": images, "augment": "random-resized-crop", "image_size": 6}
    limited("1GB")
    whole = tickets_of(problem_of(**fields))
    limited(TINY)
    problem, taken = problem_of(**fields), []
    assert problem.dataset.train.inputs.shape[1:] == (6, 6, 3)
    assert tickets_of(problem, watch(due=lambda epochs_done: True, save=taken.append)) == whole
    middle = next(s for s in taken if s.step % problem.pipeline.steps_per_epoch)
    assert tickets_of(problem, resume=middle) == whole
    assert tickets_of(problem_of(**fields | {"augment": "none"})) != whole


def test_crops_of_another_epoch_or_seed_are_others():
    data = Split(Crops(np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)), SPLIT.targets[:4])
    order = lambda key, epoch: jnp.arange(4)  # noqa: E731
    sharding = Sharding()
    feed = Streamed(data, Pipeline(4, 1, order, None, lambda x: x), sharding, Streaming(1 << 20))
    found = []
    for seed, epoch in ((0, 1), (0, 1), (0, 2), (1, 1)):
        [chunk] = feed.chunks(sharding.stack_seeds([jax.random.key(seed)]), epoch, epoch - 1)
        found.append(np.asarray(chunk.per_seed[0]))
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()
    assert (found[0] != found[3]).any()


def test_a_ticket_of_random_crops_is_evaluated_on_the_middle_of_images(images, limited):
    limited("1GB")
    [ticket] = supermask.search(supermask.SearchConfig(**SMALL, dataset=images, augment="random-resized-crop"))
    assert supermask.evaluate(ticket).reproduced


# --- the command ----------------------------------------------------------------------------------------------------


def called(*words):
    return subprocess.run([sys.executable, "-m", "supermask", *words], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--resident-limit", "much"), "resident-limit is 'much'; it must be bytes with a unit, such as 2GB or 500MB"),
        (("--workers", "two"), "workers is 'two'; it must be a whole number from 0 to 1024"),
    ],
)
def test_words_that_make_no_sense_are_refused_before_anything_is_read(words, said):
    found = called("search", "--dataset", "folder:nowhere", *words)
    assert (found.returncode, found.stderr) == (2, f"supermask: {said}\n")


@pytest.mark.slow
def test_the_limit_names_no_run(tmp_path):
    """With and without it, a call means the same run."""
    words = ("search", "--arch", "lenet300", "--width", "0.1", "--epochs", "1", "--runs-dir", str(tmp_path))
    first = called(*words, "--resident-limit", TINY)
    assert "streaming: 1,797 examples of 8x8" in first.stderr
    again = called(*words)
    assert "is finished" in again.stderr
    assert first.stdout == again.stdout


def children(number):
    return [int(child) for child in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


def alive(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGTERM, 75, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        (signal.SIGKILL, -9),
    ],
)
def test_signals_end_a_search_as_ever_and_its_workers_with_it(images, tmp_path, number, code):
    """A checkpoint is saved, nothing but one line is said, and no worker is left, busy as it may be."""
    words = ["search", "--arch", "lenet300", "--width", "0.1", "--dataset", images, "--epochs", "100000"]
    words += ["--batch-size", "16", "--resident-limit", TINY, "--workers", "2", "--out", str(tmp_path / "run")]
    started = subprocess.Popen(
        [sys.executable, "-m", "supermask", *words], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while "epoch 2" not in started.stderr.readline():
        assert started.poll() is None
    workers = children(started.pid)
    assert len(workers) == 2
    os.killpg(started.pid, number)  # as a terminal and a batch system do
    said = [line for line in started.communicate(timeout=60)[1].splitlines() if "epoch" not in line]
    assert started.returncode == code
    until = time.monotonic() + 10
    while any(map(alive, workers)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(map(alive, workers))
    if number != signal.SIGKILL:
        assert said[-1].startswith("supermask: ")
        assert "the same command" in said[-1]
        assert not any("Traceback" in line or "Exception" in line for line in said)
