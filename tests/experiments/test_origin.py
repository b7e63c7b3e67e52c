"""A run and a ticket are known by their data and code, whatever those are called, and wherever they lie."""

import importlib
import shutil
import struct
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers import watch

import supermask
from supermask.errors import BadFileError, RunFolderError, StoppedError, UsageError
from supermask.experiments.options import RunOptions

pytestmark = pytest.mark.usefixtures("compiled_quickly")

FAST = {"arch": "lenet300", "width": 0.05, "method": "random", "dataset": "npz:x.npz"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUPERMASK_DATA_DIR", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def save(path="x.npz", seed=0, classes=3, columns=8, **change):
    """Grey images of a few classes, which a bright row tells apart."""
    random, arrays = np.random.default_rng(seed), {}
    for part, count in (("train", 90), ("test", 45)):
        labels = np.arange(count) % classes
        images = random.integers(0, 60, (count, 8, columns)).astype(np.uint8)
        images[np.arange(count), labels * 2] += 180
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    np.savez(path, **{name: change.get(name, lambda array: array)(array) for name, array in arrays.items()})


def search(run, notes=None, data_dir=None, moved=None, **fields):
    callbacks = () if notes is None else (watch(note=notes.append),)
    options = RunOptions(run, data_dir=data_dir, dataset=moved, callbacks=callbacks)
    [ticket] = supermask.search(supermask.SearchConfig(**FAST | fields), run=options)
    return ticket


@pytest.mark.slow
def test_another_file_of_the_same_name_is_another_run(here):
    save()
    options = RunOptions(root=here / "runs")
    config = supermask.SearchConfig(**FAST)
    [one] = supermask.search(config, run=options)
    save(seed=1)
    [other] = supermask.search(config, run=options)
    save()
    [again] = supermask.search(config, run=options)
    assert len(list((here / "runs").iterdir())) == 2
    assert one.to_bytes() == again.to_bytes()
    assert one.content["train images"] != other.content["train images"]


def test_a_finished_run_is_of_its_data_in_whatever_file(here):
    save()
    ticket, notes = search("run"), []
    assert supermask.Run.open("run").content.items() >= ticket.content.items()
    np.savez("x.npz", **np.load("x.npz"), unread=np.zeros(3))
    assert search("run", notes).to_bytes() == ticket.to_bytes()
    assert len(notes) == 1
    for change, said in (
        ({"seed": 1}, "train images differ; test images differ"),
        ({"columns": 6}, "train images 90x8x8x1 there, 90x8x6x1 here"),
        ({"classes": 4}, "classes 3 there, 4 here"),
        ({"y_test": lambda labels: 2 - labels}, r"\(test labels differ\)"),
    ):
        save(**change)
        with pytest.raises(RunFolderError, match=rf"run was made of other data or code .*{said}"):
            search("run")
    shutil.move("x.npz", "elsewhere.npz")
    notes.clear()
    assert search("run", notes).to_bytes() == ticket.to_bytes()
    assert "was not compared with what it was: x.npz does not exist" in notes[0]


def test_a_run_of_an_earlier_version_is_taken_as_it_is(here):
    save()
    ticket = search("run")
    (here / "run" / "content.json").unlink()
    save(seed=1)
    notes = []
    assert search("run", notes, moved="npz:x.npz").to_bytes() == ticket.to_bytes()
    assert "does not say what its data was; npz:x.npz is taken as the same" in notes[0]


def test_only_the_data_of_a_run_can_have_moved(here):
    save()
    with pytest.raises(UsageError, match="new is not a run yet"):
        search("new", moved="npz:x.npz")
    assert not (here / "new").exists()


def stop(run, **fields):
    fields = {"method": "edge-popup", "epochs": 3} | fields
    seen = []
    callback = watch(epoch=seen.append, stop=lambda: len(seen) >= 1)
    with pytest.raises(StoppedError):
        supermask.search(supermask.SearchConfig(**FAST | fields), run=run, callbacks=[callback])
    return fields


@pytest.mark.slow
def test_a_stopped_run_goes_on_where_its_data_is_now_to_the_same_bytes(here):
    save()
    fields = stop("run")
    whole = search("whole", **fields)
    (here / "data").mkdir()
    shutil.move("x.npz", "data/y.npz")
    save(seed=1)
    with pytest.raises(RunFolderError, match="train images differ"):
        search("run", **fields)
    with pytest.raises(RunFolderError, match="train images differ"):
        search("run", moved="npz:x.npz", **fields)
    assert search("run", moved="npz:y.npz", data_dir="data", **fields).to_bytes() == whole.to_bytes()
    assert supermask.Run.open("run").config.dataset == "npz:x.npz"
    assert search("run", moved="npz:data/y.npz", **fields).to_bytes() == whole.to_bytes()


def test_a_ticket_is_evaluated_where_its_data_is_now(here):
    save()
    ticket = search("run")
    expected = supermask.evaluate(ticket)
    (here / "data").mkdir()
    shutil.move("x.npz", "data/x.npz")
    with pytest.raises(BadFileError, match="if the ticket's data has moved, --dataset says where to"):
        supermask.evaluate(ticket)
    assert supermask.evaluate(ticket, data_dir="data") == expected
    moved = supermask.evaluate(ticket, dataset="npz:data/x.npz")
    assert moved == replace(expected, dataset="npz:data/x.npz")
    assert moved.reproduced
    assert moved.notes == ()


def test_other_data_is_evaluated_where_it_is_asked_for_and_fits(here):
    save()
    ticket = search("run")
    save(x_test=lambda images: images // 2)
    with pytest.raises(BadFileError, match=r"npz:x\.npz is not the data of .*: test images differ; --dataset"):
        supermask.evaluate(ticket)
    found = supermask.evaluate(ticket, dataset="npz:x.npz")
    assert found.other_data == ("test images differ",)
    [note] = found.notes
    assert "npz:x.npz is other data than the ticket's: test images differ" in note
    for change, said in (({"columns": 6}, "8x6x1; those of .* are 8x8x1"), ({"classes": 4}, "has 4 classes; .* has 3")):
        save(**change)
        with pytest.raises(BadFileError, match=said):
            supermask.evaluate(ticket, dataset="npz:x.npz")


def test_other_data_is_normalised_as_the_ticket_s_was(here):
    """The same test images beside darker training images: the same accuracy and loss."""
    save()
    ticket = search("run")
    expected = supermask.evaluate(ticket)
    save(x_train=lambda images: images // 3)
    found = supermask.evaluate(ticket, dataset="npz:x.npz")
    assert "train images differ" in found.other_data
    assert (found.accuracy, found.loss) == (expected.accuracy, expected.loss)


def test_a_ticket_of_an_earlier_version_is_evaluated_and_says_what_it_cannot_tell(here):
    save()
    ticket = replace(search("run"), content={})
    assert supermask.evaluate(ticket).notes == ()
    [note] = supermask.evaluate(ticket, dataset="npz:x.npz").notes
    assert "does not say what its data was" in note


NET = """
import jax
from flax import nnx


class Net(nnx.Module):
    def __init__(self, image_shape, classes, rngs):
        self.one = nnx.Linear(image_shape[0] * image_shape[1], 8, rngs=rngs)
        self.two = nnx.Linear(8, classes, rngs=rngs)

    def __call__(self, x):
        # comment
        return self.two(jax.nn.relu(self.one(x.reshape(len(x), -1))))
"""
METHOD = """
import numpy as np
from supermask import Method


class Half(Method):
    learned = False

    def init(self, key, weights, context):
        return {name: w * 1.0 for name, w in weights.items()}

    def mask(self, scores, weights, *, key, progress):
        return self.harden(scores, weights)

    def harden(self, scores, weights):
        return {name: s > 0 for name, s in scores.items()}

    def effective(self, weights, mask):
        return {name: 2.0 * weights[name] * mask[name] for name in mask}
"""


def write(here, module, text):
    (here / f"{module}.py").write_text(text)
    sys.modules.pop(module, None)
    shutil.rmtree(here / "__pycache__", ignore_errors=True)
    importlib.invalidate_caches()


def test_a_network_whose_code_changes_is_another(here):
    save()
    own = {"arch": "ownnet:Net", "width": 1.0}
    write(here, "ownnet", NET)
    ticket = search("run", **own)
    write(here, "ownnet", NET.replace("# comment", "# more of it"))
    assert search("run", **own).to_bytes() == ticket.to_bytes()
    write(here, "ownnet", NET.replace("nn.relu(", "numpy.cos("))
    with pytest.raises(RunFolderError, match="arch code differs"):
        search("run", **own)
    with pytest.raises(BadFileError, match=r"made by other code \(arch code differs\), and its validation accuracy"):
        supermask.evaluate(ticket)
    write(here, "ownnet", NET.replace("nn.relu(", "numpy.maximum(0, "))
    found = supermask.evaluate(ticket)
    assert found.reproduced
    assert "arch code differs" in found.notes[0]


@pytest.mark.slow
def test_a_method_whose_code_changes_is_another_and_is_not_exported(here):
    from click.testing import CliRunner

    from supermask.cli import group

    save()
    own = {"method": "ownmethod:Half"}
    write(here, "ownmethod", METHOD)
    search("run", **own)
    words = ["export", "run/ticket-s0.safetensors", "--force"]
    assert CliRunner().invoke(group, words).exit_code == 0
    write(here, "ownmethod", METHOD.replace("2.0 *", "3.0 *"))
    with pytest.raises(RunFolderError, match="method code differs"):
        search("run", **own)
    error = CliRunner().invoke(group, words).exception
    assert isinstance(error, BadFileError)
    assert "method code differs" in str(error)


DATASET = """
import numpy as np
from supermask import Dataset, Split

def load(data_dir, argument=""):
    images = np.load("pixels.npy")
    labels = np.arange(len(images), dtype=np.int32) % 2
    split = Split(images, labels)
    return Dataset(split, split, ("a", "b"), (0.5,), (0.5,))
"""


def test_a_dataset_of_the_user_s_own_is_known_by_what_it_loads(here):
    options, config = RunOptions(root=here / "runs"), supermask.SearchConfig(**FAST | {"dataset": "owndata:load"})
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 1)).astype(np.uint8)
    np.save("pixels.npy", images)
    write(here, "owndata", DATASET)
    [ticket] = supermask.search(config, run=options)
    write(here, "owndata", DATASET.replace("labels = ", "labels = 0 + "))
    [again] = supermask.search(config, run=options)
    assert again.to_bytes() == ticket.to_bytes()
    [path] = (here / "runs").iterdir()
    np.save("pixels.npy", 255 - images)
    with pytest.raises(RunFolderError, match="train images differ"):
        supermask.search(config, run=path)
    supermask.search(config, run=options)
    assert len(list((here / "runs").iterdir())) == 2


@pytest.mark.slow
def test_built_in_data_of_another_folder_is_other_data(here, monkeypatch):
    """Extracts of official files are read; which one it was, the name does not say."""
    from supermask.datasets import _check

    monkeypatch.setattr(_check, "print", lambda *words, **more: None, raising=False)
    for name, value in (("A", 1), ("B", 2)):
        write_mnist(here / name, value)
    mnist = {"dataset": "mnist"}
    ticket = search("run", data_dir="A", **mnist)
    with pytest.raises(RunFolderError, match="train images differ"):
        search("run", data_dir="B", **mnist)
    with pytest.raises(BadFileError, match=r"mnist is not the data of .*train images differ"):
        supermask.evaluate(ticket, data_dir="B")
    notes = []
    assert search("run", notes, data_dir="C", **mnist).to_bytes() == ticket.to_bytes()
    assert "was not compared" in notes[0]
    assert not (here / "C").exists()


def write_mnist(folder, value):
    folder.mkdir()
    for part in ("train", "t10k"):
        pixels = bytes([value] * 784 * 20)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 2051, 20, 28, 28) + pixels)
        labels = bytes(i % 10 for i in range(20))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, 20) + labels)


@pytest.mark.slow
def test_training_under_a_ticket_says_that_the_data_is_another(here):
    save()
    ticket, notes = search("run"), []
    config = supermask.TrainConfig.under("run/ticket-s0.safetensors", ticket.config).replace(epochs=1)
    supermask.train(config, callbacks=[watch(note=notes.append)])
    assert [note for note in notes if "other data" in note] == []
    notes.clear()
    save(seed=1)
    [found] = supermask.train(config, callbacks=[watch(note=notes.append)])
    assert "was found on other data or code: train images differ; test images differ" in notes[0]
    found.save("weights.safetensors")
    loaded = supermask.load_result("weights.safetensors")
    assert loaded.content == found.content
    save()
    with pytest.raises(BadFileError, match="is not the data of"):
        supermask.evaluate(loaded)
