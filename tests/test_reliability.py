"""What must hold when the machine does not: writes cut short, full disks, other cores, time zones and hash seeds."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import supermask
from supermask import checkpoint
from supermask.errors import BadFileError, SupermaskError

ROOT = Path(supermask.__file__).parent.parent
OLD = {"state": np.zeros(50, np.float32)}
NEW = {"state": np.ones(50, np.float32)}


class Died(BaseException):
    """The process ends here."""


class Watched:
    """A file whose writes a disk counts."""

    def __init__(self, file, disk):
        self.file, self.disk, self.path = file, disk, os.readlink(f"/proc/self/fd/{file.fileno()}")

    def write(self, data):
        self.disk.step()
        self.disk.unsynced[self.path] = True
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()


class Disk:
    """Counts system calls that write, ends the process at one of them, and knows what a power cut would take.

    What was written to a file and not yet synced is lost, and a rename whose folder was not synced may be.
    """

    def __init__(self, monkeypatch, stop):
        self.count, self.stop, self.unsynced, self.renamed = 0, stop, {}, []
        real = {name: getattr(os, name) for name in ("open", "fsync", "replace")}
        monkeypatch.setattr(os, "open", self.wrap(real["open"]))
        monkeypatch.setattr(os, "fsync", self.fsync(real["fsync"]))
        monkeypatch.setattr(os, "replace", self.replace(real["replace"]))
        fdopen = os.fdopen
        monkeypatch.setattr(os, "fdopen", lambda handle, mode: Watched(fdopen(handle, mode), self))

    def step(self):
        self.count += 1
        if self.count == self.stop:
            raise Died

    def wrap(self, call):
        def wrapped(*arguments, **named):
            self.step()
            return call(*arguments, **named)

        return wrapped

    def fsync(self, call):
        def wrapped(handle):
            self.step()
            path = os.readlink(f"/proc/self/fd/{handle}")
            self.unsynced.pop(path, None)
            self.renamed = [pair for pair in self.renamed if str(Path(pair[1]).parent) != path]
            return call(handle)

        return wrapped

    def replace(self, call):
        def wrapped(source, target):
            self.step()
            assert str(source) not in self.unsynced, "renamed before its content was on the disk"
            call(source, target)
            self.renamed.append((str(source), str(target)))

        return wrapped

    def power_cut(self, folder):
        """What may be left: unsynced files emptied, renames that were not synced undone."""
        for path in self.unsynced:
            if Path(path).exists():
                Path(path).write_bytes(b"")
        for source, target in self.renamed:
            if Path(target).exists():
                Path(target).rename(source)


@pytest.mark.parametrize("cut", [False, True], ids=["killed", "power cut"])
def test_wherever_a_write_stops_the_old_or_the_new_checkpoint_is_there(tmp_path, cut):
    calls = 0
    for stop in range(1, 100):
        folder = tmp_path / str(stop)
        folder.mkdir()
        checkpoint.save(folder, 1, {"n": 1}, OLD)
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, stop)
            try:
                checkpoint.save(folder, 2, {"n": 2}, NEW)
                done = True
            except Died:
                done = False
        if cut:
            disk.power_cut(folder)
        _, document, tensors, complaints = checkpoint.newest(folder)
        assert complaints == []
        assert document["n"] in ((2,) if done else (1, 2))
        assert (tensors["state"] == document["n"] - 1).all()
        calls = stop
        if done:
            break
    assert calls > 5  # there were calls to stop at


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
        timeout=120,
    )
    return process.returncode, process.stdout, process.stderr


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


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tempfile.mkstemp", lambda **more: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    with pytest.raises(SupermaskError, match="no permission to write in"):
        checkpoint.save(tmp_path, 1, {"n": 1}, OLD)


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
    began = time.monotonic()
    for read in (supermask.Ticket.load, lambda _: checkpoint.newest(tmp_path)):
        with pytest.raises(BadFileError) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
    assert time.monotonic() - began < 10
    assert not (tmp_path / "pwned").exists()


def test_a_ticket_is_no_checkpoint_and_a_checkpoint_no_ticket(tmp_path):
    [ticket] = supermask.search(supermask.SearchConfig(arch="lenet300", width=0.02, epochs=1))
    path = ticket.save(tmp_path / f"checkpoint-{1:020d}.safetensors")
    with pytest.raises(BadFileError, match="no checkpoint"):
        checkpoint.newest(tmp_path)
    path = checkpoint.save(tmp_path, 2, {"n": 1}, OLD)
    with pytest.raises(BadFileError, match="not a whole ticket"):
        supermask.Ticket.load(path)
