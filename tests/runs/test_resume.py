"""A search that is stopped, killed or damaged in between ends in the same bytes as one that is not."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import found_groups, open_run, problem_of, tickets_of, watch

import supermask
from supermask.engine.snapshot import Snapshot
from supermask.errors import BadFileError, DivergedError
from supermask.runs import checkpoints
from supermask.storage.container import seal, unseal

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SMALL = {"arch": "lenet300", "width": 0.1, "epochs": 3, "batch_size": 64}
SEARCHES = {
    "edge-popup": {},
    "best epoch, adam": {"optimizer": "adam", "learning_rate": 0.01, "select": "best"},
    "seeds side by side and in turn": {"seeds": 3},
    "iterand": {"method": "iterand", "options": {"period": 5, "rate": 0.5}},
    "fedpm": {"method": "fedpm", "options": {"clients": 3, "local_epochs": 1}},
    "beta of an epoch": {
        "method": "continuous-sparsification",
        "options": {"temperature": "epoch", "rounds": 2, "moments": "kept"},
        **{"optimizer": "adam", "schedule": "cosine", "cycles": 2},
    },
    "moving average": {"method": "hard-concrete", "options": {"average": 0.9}},
    "all in order": {"method": "signed", "order": "once", "validation": 0.0, "clip_each": 0.5},
    "gem-miner": {"method": "gem-miner", "options": {"period": 1}, "density": 0.2},
    "genetic": {"method": "genetic", "options": {"population": 3, "parents": 1}, "epochs": 2},
    "convolutions": {"arch": "conv2", "width": 0.05},
}


def through_a_file(snapshot):
    document, tensors = unseal(seal({"format": 1, **snapshot.pack()[0]}, snapshot.pack()[1]), Path("x"), 1)
    return Snapshot.unpack(json.loads(json.dumps(document)), tensors)


SLOW = (
    *("edge-popup", "best epoch, adam", "iterand", "fedpm", "gem-miner", "convolutions", "beta of an epoch"),
    *("moving average", "all in order"),
)


@pytest.mark.parametrize(
    "fields",
    [pytest.param(SEARCHES[name], id=name, marks=pytest.mark.slow if name in SLOW else ()) for name in SEARCHES],
)
def test_any_snapshot_goes_on_to_the_same_bytes(fields):
    problem = problem_of(**SMALL | fields)
    whole, taken = tickets_of(problem), []
    assert tickets_of(problem, watch(due=lambda epochs_done: True, save=taken.append)) == whole
    assert len(taken) > 3 * len(whole) / 2  # more than one an epoch
    middle = [s for s in taken if s.step % problem.pipeline.steps_per_epoch]
    for snapshot in (taken[-1], random.Random(0).choice(middle)):
        found = tickets_of(problem, resume=through_a_file(snapshot))
        assert found == {seed: data for seed, data in whole.items() if seed >= snapshot.first}


@pytest.fixture(scope="module")
def sampled():
    """A problem whose last mask is scored by draws, and the tickets of its whole search."""
    problem = problem_of(**SMALL | {"method": "bernoulli", "epochs": 1})
    return problem, tickets_of(problem)


@pytest.mark.parametrize(
    "moment", [pytest.param("the epoch's validation", marks=pytest.mark.slow), "the draws of the last mask"]
)
def test_a_search_stopped_while_it_scores_goes_on_to_the_same_bytes(moment, sampled, monkeypatch):
    """Scoring a large split takes longer than a signal may wait."""
    monkeypatch.setattr("supermask.engine.evaluator.SECONDS_PER_CALL", 0)  # a call for each batch
    (problem, whole), taken, steps, epochs, asked = sampled, [], [0], [], []

    def stop():
        if moment == "the epoch's validation":
            asked.append(steps[-1] == problem.total_steps)
        else:
            asked.append(len(epochs))
        return sum(asked) > 2  # in the middle

    told = watch(epoch=epochs.append, steps=lambda seeds, done, *more: steps.append(done), save=taken.append)
    [found] = found_groups(problem, told, watch(stop=stop))
    assert found.group.state.interrupted
    [snapshot] = taken
    assert (snapshot.step, snapshot.epochs_done) == (problem.total_steps, len(epochs))
    if moment == "the epoch's validation":
        assert found.tickets == []
    else:
        [best] = found.tickets
        assert best.metrics["val_samples"] == 1
        assert supermask.evaluate(best).reproduced
    assert tickets_of(problem, resume=through_a_file(snapshot)) == whole


def test_masks_that_are_not_trained_can_be_stopped_between_seeds():
    problem = problem_of(**SMALL | {"method": "random", "seeds": 5})
    whole, found, taken, interrupted = tickets_of(problem), [], [], []
    for group in found_groups(problem, watch(stop=lambda: bool(found), save=taken.append)):
        found.extend(group.tickets)
        interrupted.append(group.group.state.interrupted)
    assert 0 < len(found) < 5
    assert interrupted == [False] * (len(interrupted) - 1) + [True]
    [snapshot] = taken
    assert snapshot.first == len(found)
    rest = tickets_of(problem, resume=through_a_file(snapshot))
    assert {ticket.config.seed: ticket.to_bytes() for ticket in found} | rest == whole


@pytest.mark.parametrize(
    ("fields", "message"), [({"width": 0.2}, "not that of this run"), ({"validation": 0.11}, "other training images")]
)
def test_a_snapshot_of_another_search_is_refused(snapshot, fields, message):
    with pytest.raises(BadFileError, match=message):
        tickets_of(problem_of(**SMALL | fields), resume=snapshot)


@pytest.fixture(scope="module")
def snapshot():
    """Of a search that is stopped after its first steps."""
    done, taken = [], []
    told = watch(steps=lambda *step: done.append(step), stop=lambda: bool(done), save=taken.append)
    tickets_of(problem_of(**SMALL), told)
    return taken[0]


def test_divergence_names_the_step_and_the_layers_and_saves_nothing_bad():
    taken = []
    wild = {"method": "sigmoid", "optimizer": "sgd", "weight_decay": 1e9, "learning_rate": 1e9}
    words = r"at step \d+ \(epoch 1; norms of what is trained: dense1/kernel .*head/kernel"
    with pytest.raises(DivergedError, match=words):
        tickets_of(problem_of(**SMALL | wild), watch(due=lambda epochs_done: True, save=taken.append))
    assert all(snapshot.is_finite() for snapshot in taken)


# --- checkpoints as files -------------------------------------------------------------------------------------------


TENSORS = {"state0": np.arange(6, dtype=np.float32).reshape(2, 3), "state1": np.array([7], np.int32)}


def test_the_last_two_are_kept_and_the_newest_is_read(tmp_path):
    for number in (1, 2, 30):
        checkpoints.save(tmp_path, number, {"n": number}, TENSORS)
    assert len(checkpoints.paths(tmp_path)) == 2
    path, document, tensors, complaints = checkpoints.newest(tmp_path)
    assert (path.name, document["n"], complaints) == (f"checkpoint-{30:020d}.safetensors", 30, [])
    np.testing.assert_array_equal(tensors["state0"], TENSORS["state0"])


def test_every_flipped_bit_and_every_truncation_is_found(tmp_path):
    path = checkpoints.save(tmp_path, 1, {"n": 1}, TENSORS)
    good = path.read_bytes()
    damaged = [good[:size] for size in range(len(good))]
    damaged += [
        good[:place] + bytes([good[place] ^ (1 << bit)]) + good[place + 1 :]
        for place in range(len(good))
        for bit in range(8)
    ]
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(BadFileError) as caught:
            checkpoints.newest(tmp_path)
        assert "\n" not in str(caught.value)
    path.write_bytes(good)
    assert checkpoints.newest(tmp_path)[1]["n"] == 1


# --- processes ------------------------------------------------------------------------------------------------------

EPOCHS = 130  # more than the lines that a process can write before its reader, see `start`
WORDS = ("search", "--arch", "lenet300", "--width", "0.1", "--epochs", str(EPOCHS), "--out", "run", "--json")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(*words, program=None, **more):
    """A process that waits for its reader after some 50 lines, and after as many more once the reader has these.

    So it cannot end before a test has seen them.
    """
    return subprocess.Popen(
        [sys.executable, *(["-m", "supermask"] if program is None else ["-c", program]), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pipesize=4096,
        env={**os.environ, "PYTHONPATH": str(Path(supermask.__file__).parent.parent)},
        **more,
    )


def finish(process, timeout=6000):
    """Its exit code and what it said; the limit only ends a process that hangs."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, out, err


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    code, out, err = finish(start(*WORDS, cwd=folder))
    assert code == 0, err
    return (folder / json.loads(out)["ticket"]).read_bytes()


def ticket_of(out):
    return Path(json.loads(out)["ticket"]).read_bytes()


def until_training(process):
    """Read stderr until the first epoch is done, or the run is said to be."""
    lines = []
    while not lines or not ("epoch" in lines[-1] or "is finished" in lines[-1]):
        lines.append(process.stderr.readline())
        assert lines[-1], lines
    return lines


def kill_and_resume(uninterrupted, kills):
    moments, killed = random.Random(kills), 0
    while killed < kills:
        process = start(*WORDS, "--checkpoint-every", "0.05s")
        lines = until_training(process)
        time.sleep(moments.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        finish(process)
        if "is finished" in lines[-1] or Path("run/result.json").is_file():  # it was done before: once more
            assert Path("run/ticket-s0.safetensors").read_bytes() == uninterrupted
            shutil.rmtree("run")
        else:
            killed += 1
    code, out, err = finish(start(*WORDS))
    assert code == 0, err
    assert "going on from step" in err or "finished" in err
    assert ticket_of(out) == uninterrupted
    assert sorted(item.name for item in Path().iterdir()) == ["run"]
    assert [item.name for item in Path("run").glob("checkpoint*")] == []
    rows = [json.loads(line)["epoch"] for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert rows == list(range(1, EPOCHS + 1))


def test_killed_at_a_random_moment_it_ends_in_the_same_ticket(here, uninterrupted):
    kill_and_resume(uninterrupted, 1)


@pytest.mark.slow
def test_killed_25_times_it_ends_in_the_same_ticket(here, uninterrupted):
    kill_and_resume(uninterrupted, 25)


@pytest.mark.parametrize(
    ("number", "code", "again"),
    [
        (signal.SIGTERM, 75, ("search", "--resume", "run", "--json")),
        pytest.param(signal.SIGUSR1, 75, WORDS, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 75, WORDS, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, WORDS, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_signal_in_training_saves_and_the_same_command_or_resume_goes_on(here, uninterrupted, number, code, again):
    process = start(*WORDS)
    until_training(process)
    process.send_signal(number)
    found, out, err = finish(process)
    assert found == code, err
    last = err.splitlines()[-1]
    assert last.startswith("supermask: ")
    assert "the same command goes on from step" in last
    best = json.loads(out)["ticket"]
    assert best in last
    assert Path(best).is_file()
    code, out, err = finish(start(*again))
    assert code == 0, err
    assert "going on from step" in err
    assert ticket_of(out) == uninterrupted


@pytest.mark.parametrize("moment", ["the folder is claimed", "compiling"])
def test_a_signal_before_training_ends_it_and_leaves_nothing(here, moment):
    process = start(*WORDS, "--width", "0.21")  # nothing of it is in a cache
    if moment == "compiling":
        assert "run folder" in process.stderr.readline()
        time.sleep(0.3)
    while not Path(".run.unfinished").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert code == 75
    [line] = [line for line in err.splitlines() if line.startswith("supermask: ")]
    assert "stopped by SIGTERM" in line
    assert "Traceback" not in err
    # Should it train already, because the signal came late, it says where it goes on.
    assert line.endswith("nothing was lost") == (list(here.iterdir()) == [])


COMPILING_FOR_HOURS = """
import hashlib, os, threading, jax

def compile(*arguments, **more):
    threading.Timer(0.1, os.kill, (os.getpid(), 15)).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # one call into C, as compiling is

jax.stages.Lowered.compile = compile
from supermask.__main__ import main
main()
"""


def test_a_signal_does_not_wait_for_a_compilation(here):
    code, out, err = finish(start(*WORDS, program=COMPILING_FOR_HOURS))
    assert (code, out) == (75, "")
    assert err.splitlines()[-1] == "supermask: stopped by SIGTERM; nothing was lost"
    assert list(here.iterdir()) == []


def test_resume_takes_the_config_from_the_run_and_no_other(here):
    supermask.search(supermask.SearchConfig(**SMALL, method="random"), run="run")
    for words, code in (
        (("--resume", "run", "--width", "0.5"), 4),
        (("--resume", "nowhere"), 3),
        (("--resume", "run", "--out", "x"), 2),
        (("--time-limit", "1"), 2),
    ):
        found, _, err = finish(start("search", *words))
        assert (found, len(err.splitlines())) == (code, 1), err
        assert code != 4 or "width 0.1 there, 0.5 here" in err


@pytest.mark.slow  # endless epochs until the limit
def test_the_time_limit_saves_what_was_searched(here):
    """There are more epochs than end in any limit; the first that is longer than compiling stops the training."""
    for seconds in (4, 8, 16, 32, 64, 128, 256):
        words = (*WORDS, "--epochs", "1000000", "--time-limit", f"{seconds}s")
        code, out, err = finish(start(*words))
        assert code == 75, err
        last = err.splitlines()[-1]
        assert last.startswith("supermask: time limit reached; ")
        if not last.endswith("nothing was lost"):
            break
        assert list(here.iterdir()) == []
    assert "the same command goes on from step" in last
    assert json.loads(out)["ticket"] in last
    assert ticket_of(out)
    assert checkpoints.paths(Path("run"))


def test_a_damaged_newest_checkpoint_is_reported_and_the_one_before_is_used(here, uninterrupted):
    process = start(*WORDS, "--checkpoint-every", "10e")
    lines = until_training(process)
    while len(checkpoints.paths(Path(".run.unfinished"))) < 2:
        assert process.poll() is None, lines
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    finish(process)
    hidden = Path(".run.unfinished")
    *older, before, newest = checkpoints.paths(hidden)
    for path in older:  # killed after it wrote one, before it removed another
        path.unlink()
    good = newest.read_bytes()
    newest.write_bytes(good[:1000] + bytes([good[1000] ^ 4]) + good[1001:])
    kept = before.read_bytes()
    before.write_bytes(b"")
    code, _, err = finish(start(*WORDS))
    assert code == 3, err
    assert "--force" in err
    before.write_bytes(kept)
    code, out, err = finish(start(*WORDS))
    assert code == 0, err
    assert "the checkpoint before it is used" in err
    assert ticket_of(out) == uninterrupted


@pytest.mark.slow
def test_of_eight_processes_one_runs_and_seven_say_so(here):
    processes = [start(*WORDS, "-q") for _ in range(8)]
    answers = [finish(process) for process in processes]
    assert sorted(code for code, _, _ in answers)[:1] == [0]
    others = [err for code, _, err in answers if code == 4]
    done = [code for code, _, _ in answers if code == 0]
    assert len(others) + len(done) == 8  # who came after the end is told the result
    assert all("another process is writing to the run folder" in err for err in others)
    assert jax.process_count() == 1


AT_AN_IMPORT = """
import os, sys

class Kill:
    def find_spec(self, name, *more):
        if name == {module!r}:
            print(os.path.exists(".run.unfinished"), flush=True)
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Kill())
from supermask.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("command", "module", "number", "code"),
    [
        ("search", "click", signal.SIGTERM, 75),
        ("search", "numpy", signal.SIGINT, 130),
        ("search", "jax", signal.SIGTERM, 75),
        ("search", "optax", signal.SIGINT, 130),
        ("train", "click", signal.SIGTERM, 75),
        ("train", "jax", signal.SIGINT, 130),
        ("lottery", "click", signal.SIGTERM, 75),
        ("forget", "click", signal.SIGTERM, 75),
    ],
)
def test_a_signal_counts_from_the_first_import_on(here, command, module, number, code):
    process = subprocess.run(
        [sys.executable, "-c", AT_AN_IMPORT.format(module=module, number=int(number)), command, *WORDS[1:]],
        env={**os.environ, "PYTHONPATH": str(Path(supermask.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == code, process.stderr
    [line] = process.stderr.splitlines()
    assert line.startswith("supermask: ")
    assert line.endswith("nothing was lost")
    assert process.stdout == f"{module in ('jax', 'optax')}\n"  # by then the folder is this process's own
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2>&1 >/dev/null | true"])
def test_a_signal_has_its_exit_code_whatever_has_become_of_stderr(here, stderr):
    program = AT_AN_IMPORT.format(module="numpy", number=int(signal.SIGTERM)).replace(
        'print(os.path.exists(".run.unfinished"), flush=True)', "pass"
    )
    search = f'"$0" -c "$1" {" ".join(WORDS)}'
    shell = f"({search}; echo $? > code) {stderr}" if "|" in stderr else f"{search} {stderr}; echo $? > code"
    subprocess.run(
        ["sh", "-c", shell, sys.executable, program],
        env={**os.environ, "PYTHONPATH": str(Path(supermask.__file__).parent.parent)},
        check=True,
        timeout=600,
    )
    assert (here / "code").read_text() == "75\n"


@pytest.mark.slow
@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2>&1 >out | head -1"])
def test_a_search_ends_well_whatever_has_become_of_stderr(here, stderr):
    search = '"$0" -m supermask search --arch lenet300 --width 0.1 --epochs 30 --out run'
    shell = f"({search}; echo $? > code) {stderr}" if "|" in stderr else f"{search} {stderr}; echo $? > code"
    environment = {**os.environ, "PYTHONPATH": str(Path(supermask.__file__).parent.parent)}
    subprocess.run(["sh", "-c", shell, sys.executable], env=environment, check=True, timeout=600, capture_output=True)
    assert (here / "code").read_text() == "0\n"
    assert (here / "run" / "ticket-s0.safetensors").is_file()


@pytest.mark.slow
def test_an_outcome_stands_while_python_ends(here):
    """A signal that comes after the result has nothing to stop."""
    program = (
        "import atexit, os; atexit.register(os.kill, os.getpid(), 15); from supermask.__main__ import main; main()"
    )
    code, out, err = finish(start("search", "--resume", "nowhere", program=program))
    assert (code, len(err.splitlines())) == (3, 1), err
    words = ("search", "--arch", "lenet300", "--width", "0.1", "--epochs", "1", "--json", "-q")
    code, out, err = finish(start(*words, program=program))
    assert (code, err) == (0, "")
    assert ticket_of(out)


def test_the_time_limit_holds_before_there_is_anything_to_lose():
    program = "import time; from supermask.runtime.stopping import Stopping\nwith Stopping(0.2): time.sleep(60)"
    code, _, err = finish(start(program=program))
    assert (code, err) == (75, "supermask: time limit reached; nothing was lost\n")


@pytest.mark.slow
def test_signals_that_are_ignored_stay_ignored(here, uninterrupted):
    """SIGHUP under nohup."""
    shell = 'trap \'\' HUP; exec "$0" "$@"'
    process = subprocess.Popen(
        ["sh", "-c", shell, sys.executable, "-m", "supermask", *WORDS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pipesize=4096,
        env={**os.environ, "PYTHONPATH": str(Path(supermask.__file__).parent.parent)},
    )
    until_training(process)
    process.send_signal(signal.SIGHUP)
    code, out, err = finish(process)
    assert code == 0, err
    assert ticket_of(out) == uninterrupted


def test_tickets_stay_where_a_stranger_takes_the_folder_meanwhile(tmp_path):
    from supermask.errors import RunFolderError
    from supermask.runs.index import hidden_path

    config, path = supermask.SearchConfig(**SMALL, method="random"), tmp_path / "run"
    [ticket] = supermask.search(config)
    with open_run(path, config) as folder:
        folder.add_file("ticket-s0.safetensors", ticket.to_bytes())
        path.mkdir()
        (path / "theirs.txt").write_text("x")
        with pytest.raises(RunFolderError, match="appeared"):
            folder.close([], complete=True)
    assert (hidden_path(path) / "ticket-s0.safetensors").read_bytes() == ticket.to_bytes()
    assert [item.name for item in path.iterdir()] == ["theirs.txt"]
