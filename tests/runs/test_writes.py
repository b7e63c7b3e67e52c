"""Wherever a process dies while it writes, with or without a power cut, what is left is the old or the new."""

import builtins
import io
import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from helpers import open_run

from supermask.config import SearchConfig
from supermask.runs import checkpoints
from supermask.runs.index import finished
from supermask.ticket import Ticket
from supermask.weights.inits import of_config
from supermask.weights.shapes import fingerprint

CALLS = ("open", "replace", "rename", "unlink", "mkdir", "rmdir", "truncate")


opened = io.open


class Died(BaseException):
    """The process ends here: nothing that it would do after has any effect."""


class Watched:
    """A file whose writes a disk counts."""

    def __init__(self, file, disk):
        self.file, self.disk = file, disk

    def write(self, data):
        self.disk.step()
        status = os.fstat(self.file.fileno())
        self.disk.synced.setdefault(status.st_ino, status.st_size)
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()


class Disk:
    """Counts the system calls that change it, ends the process at one of them, knows what a power cut would take.

    What was written to a file and not yet synced is lost, and a rename whose folder was not synced is undone.
    """

    def __init__(self, patch, stop):
        self.count, self.stop, self.synced, self.renamed, self.handles = 0, stop, {}, [], []
        for name in CALLS:
            patch.setattr(os, name, self.counted(getattr(os, name), name))
        patch.setattr(os, "fsync", self.fsync)
        fdopen = os.fdopen
        patch.setattr(os, "fdopen", lambda handle, mode: Watched(fdopen(handle, mode), self))

        def open_(file, mode="r", *more, **named):
            found = opened(file, mode, *more, **named)
            return Watched(found, self) if set(mode) & set("wa+") else found

        patch.setattr(io, "open", open_)
        patch.setattr(builtins, "open", open_)

    def step(self):
        self.count += 1
        if self.count >= self.stop:
            raise Died

    def counted(self, call, name):
        def wrapped(*arguments, **named):
            self.step()
            moves, old = name in ("rename", "replace"), None
            if moves and os.path.isfile(arguments[1]):
                with opened(arguments[1], "rb") as file:
                    old = file.read()
            found = call(*arguments, **named)
            if moves:
                self.renamed.append((*map(str, arguments), old))
            if name == "open":
                self.handles.append((found, os.fstat(found)))
            return found

        return wrapped

    def fsync(self, handle):
        self.step()
        self.synced.pop(os.fstat(handle).st_ino, None)
        path = os.readlink(f"/proc/self/fd/{handle}")
        self.renamed = [renamed for renamed in self.renamed if str(Path(renamed[1]).parent) != path]

    def forget(self):
        """What a dead process held open is closed, with its locks."""
        for handle, status in self.handles:
            with suppress(OSError):
                if os.path.samestat(os.fstat(handle), status):
                    os.close(handle)

    def power_cut(self, folder):
        for path in [item for item in folder.rglob("*") if item.is_file()]:
            if path.stat().st_ino in self.synced:
                os.truncate(path, self.synced[path.stat().st_ino])
        for source, target, old in reversed(self.renamed):
            if Path(target).exists():
                os.rename(target, source)
                if old is not None:
                    Path(target).write_bytes(old)


def stops(folder, before, work, look, cut):
    """Let `work` die at each of its calls in turn, and `look` at what is left; how many calls there were."""
    for stop in range(1, 1000):
        own = folder / str(stop)
        own.mkdir()
        before(own)
        with pytest.MonkeyPatch.context() as patch:
            disk, done = Disk(patch, stop), True
            try:
                work(own)
            except Died:
                done = False
        disk.forget()
        if cut:
            disk.power_cut(own)
        look(own, done)
        if done:
            return stop
    raise AssertionError("it never ends")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    """What is written before and after a death need not reach a real disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


cuts = pytest.mark.parametrize("cut", [False, True], ids=["killed", "power cut"])


@cuts
def test_the_old_or_the_new_checkpoint_is_there(tmp_path, cut):
    def save(folder, number):
        checkpoints.save(folder, number, {"n": number}, {"state": np.full(50, number, np.float32)})

    def look(folder, done):
        _, document, tensors, complaints = checkpoints.newest(folder)
        assert complaints == []
        assert document["n"] in ((2,) if done else (1, 2))
        assert (tensors["state"] == document["n"]).all()

    assert stops(tmp_path, lambda folder: save(folder, 1), lambda folder: save(folder, 2), look, cut) > 5


CONFIG = SearchConfig(arch="lenet300", width=0.02, epochs=2, init="signed-constant")
SHAPES = {"dense1/kernel": (64, 6), "head/kernel": (6, 10)}


def ticket(accuracy):
    return Ticket(
        config=CONFIG,
        shapes=SHAPES,
        image_shape=(8, 8, 1),
        mask={name: np.ones(shape, bool) for name, shape in SHAPES.items()},
        state={},
        fingerprint=fingerprint(of_config(CONFIG, 0, SHAPES)),
        metrics={"loss": 1.0, "train_accuracy": 0.5, "val_accuracy": accuracy, "epochs": 2},
    )


def fill(path, accuracy, force=False, stop=None, least=0):
    """A run of four epochs as a search writes it, with a checkpoint after each but the last.

    It is stopped after the epoch `stop`, and must find a checkpoint of the epoch `least` or a later one.
    """
    with open_run(path, CONFIG, force=force) as folder:
        rows = 0
        if folder.resumed:
            rows = folder.resumed[0]["epoch"]
            assert (folder.resumed[1]["state"] == rows).all()
            written = (folder.working / "metrics.jsonl").read_text().splitlines()
            assert [json.loads(line)["epoch"] for line in written] == list(range(1, rows + 1))
        assert rows >= least
        for epoch in range(rows + 1, 5):
            folder.add_metrics({"epoch": epoch})
            if epoch < 4:
                folder.add_checkpoint(epoch, {"epoch": epoch}, {"state": np.full(50, epoch, np.float32)})
            if epoch == stop:
                break
        saved = folder.add_file("ticket-s0.safetensors", ticket(accuracy).to_bytes())
        numbers = dict.fromkeys(("val_accuracy", "train_accuracy", "density", "epochs", "ticket_bytes"), accuracy)
        folder.close([{**numbers, "ticket": str(saved), "accuracy": accuracy}], complete=stop is None)


def told(path):
    """The accuracy that a finished run tells of, after a look at all that it should have; else None."""
    found = finished(path, CONFIG)
    if found is None:
        return None
    assert Ticket.load(path / "ticket-s0.safetensors").metrics["val_accuracy"] == found[0]["accuracy"]
    assert len((path / "metrics.jsonl").read_text().splitlines()) == 4
    return found[0]["accuracy"]


BEFORE = {
    "first run": lambda path: None,
    "in place of an older one": lambda path: fill(path, 0.25),
    "on from where it was stopped": lambda path: fill(path, 0.25, stop=2),
}


@cuts
@pytest.mark.parametrize("before", BEFORE)
def test_a_run_is_not_there_or_whole_and_the_same_search_goes_on(tmp_path, before, cut):
    older, stopped = before.startswith("in place"), before.startswith("on from")

    def work(folder):
        fill(folder / "run", 0.5, force=older, least=2 if stopped else 0)

    def look(folder, done):
        path = folder / "run"
        found = told(path)
        assert found == 0.5 or (not done and found in (0.25 if older else None, None))
        if found != 0.5:
            work(folder)  # once more, from no earlier checkpoint
            assert told(path) == 0.5
            assert [item.name for item in folder.iterdir()] == ["run"]  # nothing is left beside it
        names = sorted(item.name for item in path.iterdir() if "checkpoint" not in item.name)
        assert names == ["config.json", "metrics.jsonl", "result.json", "ticket-s0.safetensors"]

    assert stops(tmp_path, lambda folder: BEFORE[before](folder / "run"), work, look, cut) > 30
