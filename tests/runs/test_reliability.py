"""What must hold when the machine does not: full disks, hostile files, other cores, time zones and hash seeds."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import random_ticket

import supermask
from supermask.errors import BadFileError, SupermaskError
from supermask.runs import checkpoints

pytestmark = pytest.mark.usefixtures("compiled_quickly")

ROOT = Path(supermask.__file__).parent.parent
OLD = {"state": np.zeros(50, np.float32)}


def search(folder, *words, before="", **environment):
    """A search in a process of its own, which runs the statements `before` first."""
    program = f"import os, resource, sys; {before or 'pass'}; from supermask.cli import main; main()"
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            *["search", "--arch", "lenet300", "--width", "0.3", "--devices", "2", "--out", "run", "--json"],
            *words,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return process.returncode, process.stdout, process.stderr


@pytest.mark.slow  # three searches that share nothing compiled
@pytest.mark.usefixtures("optimised")
def test_cores_time_zone_locale_and_hash_seed_have_no_say(tmp_path):
    plain = {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"}
    other = {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "4242"}
    settings = {
        "plain": ("", plain),
        "one core": ("os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})", plain),
        "elsewhere": ("", other),
    }
    found = {}
    for name, (before, environment) in settings.items():
        folder = tmp_path / name
        folder.mkdir()
        code, out, err = search(folder, "--epochs", "3", before=before, **environment)
        assert code == 0, err
        found[name] = (folder / json.loads(out)["ticket"]).read_bytes()
    assert found["plain"] == found["one core"] == found["elsewhere"]


@pytest.mark.slow
def test_a_home_that_cannot_be_written_to_is_no_hindrance(tmp_path):
    home = str(tmp_path / "file" / "home")
    (tmp_path / "file").write_text("not a folder")
    plain = {"HOME": home, "XDG_CACHE_HOME": home, "JAX_COMPILATION_CACHE_DIR": ""}
    code, out, err = search(tmp_path, "--epochs", "1", before="os.environ.pop('JAX_COMPILATION_CACHE_DIR')", **plain)
    assert code == 0, err
    assert "arning" not in err
    assert Path(tmp_path, json.loads(out)["ticket"]).is_file()


LIMITED = "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))"  # as a disk that is nearly full


@pytest.mark.slow
def test_a_full_disk_ends_the_search_with_one_line_and_what_was_good_stays(tmp_path):
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    search(tmp_path, "--epochs", "1", **cache)  # so that no compiled program has to be written later
    code, _, err = search(tmp_path, "--epochs", "30", "--force", "--checkpoint-every", "1e", before=LIMITED, **cache)
    lines = [line for line in err.splitlines() if line.startswith("supermask: ")]
    assert (code, len(lines)) == (1, 1), err
    assert "cannot write" in lines[0]
    assert "File too large" in lines[0]
    row = json.loads((tmp_path / "run" / "result.json").read_text())
    assert row["complete"]  # the older run is as it was


SMALL_DISK = """
mount -t tmpfs -o size=200k none disk
"$@"; echo $?
mount -o remount,size=10m none disk
"$@"; echo $?
mount -o remount,ro disk
"$@"; echo $?
"$@" --force; echo $?
cat disk/run/ticket-s0.safetensors > ticket
"""
NAMESPACE = ["unshare", "-Urm", "sh", "-c"]


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("unshare")
    or subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode != 0,
    reason="needs user namespaces, to mount a small disk in",
)
def test_a_search_goes_on_once_the_disk_has_room_and_answers_from_one_that_is_read_only(tmp_path):
    (tmp_path / "disk").mkdir()
    words = ["search", "--arch", "lenet300", "--width", "0.3", "--devices", "2", "--epochs", "30", "-q"]
    words += ["--checkpoint-every", "1e", "--out", "disk/run"]
    process = subprocess.run(
        [*NAMESPACE, SMALL_DISK, "sh", sys.executable, "-m", "supermask", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    codes = [line for line in process.stdout.splitlines() if line.isdigit()]
    assert codes == ["1", "0", "0", "2"], process.stderr
    full, read_only = process.stderr.splitlines()
    assert "No space left on device" in full
    assert "the last good checkpoint is disk/.run.unfinished/checkpoint-" in full
    assert "Read-only file system" in read_only
    code, out, err = search(tmp_path, "--epochs", "30")
    assert code == 0, err
    assert (tmp_path / "ticket").read_bytes() == (tmp_path / json.loads(out)["ticket"]).read_bytes()


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tempfile.mkstemp", lambda **more: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    with pytest.raises(SupermaskError, match="no permission to write in"):
        checkpoints.save(tmp_path, 1, {"n": 1}, OLD)


def header(text, body=b""):
    return len(text).to_bytes(8, "little") + text + body


def overlapping():
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    text = json.dumps({"__metadata__": {"supermask": "{}"}, "a": entry, "b": entry}).encode()
    return header(text, bytes(8))


HOSTILE = {
    "a header of 2^63 bytes": lambda: (1 << 63).to_bytes(8, "little") + b"{}",
    "a header of 100 MB": lambda: header(b"{" + b" " * 100_000_000 + b"}"),
    "100 MB of brackets": lambda: header(b"[" * 100_000_000),
    "overlapping tensors": overlapping,
    "shapes beyond the file": lambda: header(
        b'{"__metadata__":{"supermask":"{}"},"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}',
        bytes(4),
    ),
    "a pickle": lambda: b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.",
    "a zip": lambda: b"PK\x03\x04" + bytes(100),
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_a_moment(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"checkpoint-{1:020d}.safetensors"
    path.write_bytes(HOSTILE[name]())
    began = time.process_time()  # of this process: what else runs has no say
    for read in (supermask.Ticket.load, lambda _: checkpoints.newest(tmp_path)):
        with pytest.raises(BadFileError) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
    assert time.process_time() - began < 10
    assert not (tmp_path / "pwned").exists()


def test_a_ticket_is_no_checkpoint_and_a_checkpoint_no_ticket(tmp_path):
    ticket = replace(random_ticket("lenet300", (8, 8, 1), width=0.02)[0], metrics={"val_accuracy": 0.5})
    path = ticket.save(tmp_path / f"checkpoint-{1:020d}.safetensors")
    with pytest.raises(BadFileError, match="is not a checkpoint"):
        checkpoints.newest(tmp_path)
    path = checkpoints.save(tmp_path, 2, {"n": 1}, OLD)
    with pytest.raises(BadFileError, match="holds checkpoint; it should be a ticket"):
        supermask.Ticket.load(path)
