"""Several processes that work on one run as one leave what one process with as many devices leaves."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import supermask
from supermask.runtime import hosts

pytestmark = pytest.mark.usefixtures("compiled_quickly")

ROOT = Path(supermask.__file__).parent.parent
SEEDS = ("search", "--arch", "lenet300", "--width", "0.1", "--seeds", "2", "--batch-size", "64")
SHARED = ("search", "--arch", "conv2", "--width", "0.05", "--batch-size", "64", "--init", "kaiming-normal", "--lr", "1")
WAIT = 600


class Process:
    """A call of the command; its lines on stderr are collected while it runs."""

    def __init__(self, folder, words, devices=1):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": str(devices)}
        self.child = subprocess.Popen(
            [sys.executable, "-m", "supermask", *words],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines, self.out = [], ""
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._listen, self._read)]
        for reader in self._readers:
            reader.start()

    def _listen(self):
        self.lines.extend(self.child.stderr)

    def _read(self):
        self.out = self.child.stdout.read()

    def wait_for(self, words):
        until = time.monotonic() + WAIT
        while not any(words in line for line in list(self.lines)):
            assert self.child.poll() is None, "".join(self.lines)
            assert time.monotonic() < until
            time.sleep(0.02)

    def end(self, seconds=WAIT):
        """Its exit code, and what it says of itself at the end."""
        code = self.child.wait(seconds)
        for reader in self._readers:
            reader.join()
        self.child.stdout.close()
        self.child.stderr.close()
        return code, [line.strip() for line in self.lines if line.startswith("supermask: ")]


@pytest.fixture
def together(tmp_path):
    """A function that starts processes of one run; those that still run are killed in the end."""
    started = []

    def start(words, count=2, devices=1, of_process=lambda i: ()):
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = found.getsockname()[1]
        common = (*words, "--coordinator", f"127.0.0.1:{port}", "--processes", str(count), "--process")
        mine = [Process(tmp_path, (*common, str(i), *of_process(i)), devices) for i in range(count)]
        started.extend(mine)
        return mine

    yield start
    for process in started:
        if process.child.poll() is None:
            process.child.kill()
            process.end()


def one(folder, words, devices=2):
    process = Process(folder, words, devices)
    assert process.end()[0] == 0, "".join(process.lines)


def tickets(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*-s*.safetensors"))}


def test_seeds_on_two_processes_stop_together_and_go_on_to_the_bytes_of_one(together, tmp_path):
    """The second of them is told to stop; later one process alone goes on."""
    words = (*SEEDS, "--epochs", "100")
    first, second = found = together((*words, "--out", "two"))
    first.wait_for("epoch 3/")
    second.child.send_signal(signal.SIGTERM)
    codes, said = zip(*(process.end() for process in found), strict=True)
    assert codes == (75, 75)
    assert said[0] == said[1]
    [text] = said[0]
    assert "stopped by SIGTERM; the same command goes on from step" in text
    step = int(re.search(r"goes on from step (\d+)", text)[1])
    assert [int(path.stem.split("-")[1]) for path in (tmp_path / "two").glob("checkpoint-*")] == [step]
    assert [line.split("  ")[0] for line in first.out.splitlines()] == [
        f"two/ticket-s{seed}.safetensors" for seed in (0, 1)
    ]
    assert second.out == ""
    one(tmp_path, (*words, "--out", "two"))
    one(tmp_path, (*words, "--out", "one"))
    assert tickets(tmp_path / "two") == tickets(tmp_path / "one")
    rows = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["seed"], row["epoch"]) for row in rows] == [(seed, e) for e in range(1, 101) for seed in (0, 1)]


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize(
    ("count", "devices"), [(2, 1), (4, 1), (2, 2)], ids=["two", "four", "two with two devices each"]
)
def test_a_batch_is_shared_by_the_devices_of_all_processes(together, tmp_path, count, devices):
    words = (*SHARED, "--epochs", "2")
    found = together((*words, "--out", "many", "--json"), count, devices)
    assert [process.end() for process in found] == [(0, [])] * count
    assert [bool(process.out) for process in found] == [True] + [False] * (count - 1)
    assert json.loads(found[0].out)["ticket"] == "many/ticket-s0.safetensors"
    one(tmp_path, (*words, "--out", "one", "--devices", str(count * devices)), count * devices)
    assert tickets(tmp_path / "many") == tickets(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 2])
def test_when_one_is_killed_all_end_and_all_go_on_later_to_the_same_bytes(together, tmp_path, victim):
    words = (*SEEDS, "--seeds", "3", "--devices", "3", "--epochs", "100", "--checkpoint-every", "1e")
    found = together((*words, "--out", "three"), 3)
    found[0].wait_for("epoch 5/")
    found[victim].child.kill()
    for i, process in enumerate(found):
        code, said = process.end(30)
        if i != victim:
            assert code == 1
            [text] = said
            assert f"process {victim} on {socket.gethostname()} has ended without a word" in text
    assert [process.end()[0] for process in together((*words, "--out", "three"), 3)] == [0, 0, 0]
    one(tmp_path, (*words, "--out", "one"), 3)
    assert tickets(tmp_path / "three") == tickets(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize(
    "words",
    [
        SEEDS[1:],
        ("--arch", "conv2", "--width", "0.25", "--batch-size", "64"),
        ("--arch", "vgg-small", "--width", "0.05", "--image-size", "16"),
        ("--arch", "vgg-small", "--width", "0.05", "--image-size", "16", "--seeds", "2"),
    ],
    ids=["seeds", "a batch shared", "batch statistics", "batch statistics of seeds"],
)
def test_weights_are_trained_together(together, tmp_path, words):
    words = ("train", *words, "--epochs", "2")
    assert [process.end()[0] for process in together((*words, "--out", "two"))] == [0, 0]
    one(tmp_path, (*words, "--out", "one"))
    assert tickets(tmp_path / "two") == tickets(tmp_path / "one")
    again = together((*words, "--out", "two"))
    assert [process.end()[0] for process in again] == [0, 0]
    assert [len(process.out.splitlines()) for process in again] == [words.count("--seeds") + 1, 0]


CHAINS = {
    "lottery": (
        "lottery --arch vgg-small --image-size 16 --width 0.05 --rounds 2 --epochs 5 --seeds 2 --rewind-step 3 "
        "--criterion gradient --control redraw,noise --transfer sign",
        "round 1",
    ),
    "lottery, a batch shared": ("lottery --arch conv2 --width 0.25 --rounds 2 --epochs 8 --rewind-step 3", "round 1"),
    "forget": (
        "forget --arch conv2 --width 0.25 --op kels --generations 3 --epochs 8 --seeds 2 --long --probe "
        "--label-noise 0.1",
        "generation 2",
    ),
}


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize(("words", "begun"), CHAINS.values(), ids=CHAINS)
def test_chains_of_trainings_stop_and_go_on_together(together, tmp_path, words, begun):
    """Process 0 alone has the folder: what an earlier leg left, the other one gets from it."""
    words = (*words.split(), "--init", "kaiming-normal", "--batch-size", "64")
    found = together(words, of_process=lambda i: ("--out", f"at-{i}"))
    found[0].wait_for(begun)
    found[1].child.send_signal(signal.SIGTERM)
    assert [process.end()[0] for process in found] == [75, 75]
    found = together(words, of_process=lambda i: ("--out", f"at-{i}"))
    assert [process.end() for process in found] == [(0, [])] * 2
    assert [bool(process.out) for process in found] == [True, False]
    assert not (tmp_path / "at-1").exists()
    one(tmp_path, (*words, "--out", "one"))
    assert tickets(tmp_path / "at-0") == tickets(tmp_path / "one")


def own_data(process):
    """A folder of data for each process."""
    return "--data-dir", f"at-{process}"


@pytest.mark.parametrize(
    ("words", "of_process", "code", "text"),
    [
        pytest.param(SEEDS, lambda i: ("--epochs", str(i + 1)), 2, "epochs 2 there, 1 in process 0", id="other words"),
        *(
            pytest.param(words, of_process, code, text, id=name, marks=pytest.mark.slow)
            for name, words, of_process, code, text in (
                ("nothing to share", (*SEEDS, "--seeds", "1"), lambda i: (), 2, "--seeds 2 or more"),
                ("an odd device", (*SEEDS, "--devices", "3"), lambda i: (), 2, "need a multiple of 2"),
                (
                    "streaming",
                    (*SEEDS, "--resident-limit", "1kB"),
                    lambda i: (),
                    2,
                    "data that streams is for one process",
                ),
                ("other data", (*SEEDS, "--dataset", "npz:own.npz"), own_data, 3, "process 1 has other data"),
            )
        ),
    ],
)
def test_what_cannot_be_done_together(together, tmp_path, words, of_process, code, text):
    write_data(tmp_path)
    for process in together(words, of_process=of_process, devices=2):
        found, said = process.end()
        assert (found, len(said)) == (code, 1), process.lines
        assert text in said[0]
        assert process.out == ""
    assert not (tmp_path / "runs").exists()


def write_data(folder):
    """Two files of one name and one shape, with other images."""
    import numpy as np

    for i in range(2):
        (folder / f"at-{i}").mkdir()
        images, labels = np.random.default_rng(i).integers(0, 255, (90, 8, 8), np.uint8), np.arange(90) % 3
        arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
        np.savez(folder / f"at-{i}" / "own.npz", **arrays)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--coordinator", "127.0.0.1:80", "--processes", "2"), "--process is missing"),
        (("--process", "1"), "--coordinator, --processes is missing"),
        (("--distributed",), "SLURM_JOB_ID"),
        (("--distributed", "--process", "1"), "leave out --coordinator"),
        (("--coordinator", "80", "--processes", "2", "--process", "0"), "HOST:PORT"),
        (("--coordinator", "a:80", "--processes", "2", "--process", "0", "--dry-run"), "--dry-run"),
    ],
)
def test_words_that_make_no_sense(words, text, monkeypatch, capfd):
    from supermask.cli import main

    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    with pytest.raises(SystemExit) as ended:
        main(["search", "--arch", "lenet300", *words])
    assert ended.value.code == 2
    found = capfd.readouterr()
    assert found.out == ""
    [line] = found.err.splitlines()
    assert text in line
    assert hosts.processes() == 1
