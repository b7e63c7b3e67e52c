"""One process at a time, where the file system has locks and where it has none."""

import errno
import fcntl
import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from helpers import open_run

from supermask.config import SearchConfig
from supermask.errors import RunFolderError, UsageError
from supermask.storage import lock
from supermask.storage.lock import lock_folder

OWNER = ".run.unfinished.owner"


@pytest.fixture
def names(tmp_path):
    return tmp_path / ".run.unfinished", tmp_path / "run"


@pytest.fixture(params=["ENOSYS", "ENOLCK", "EOPNOTSUPP", "EBADF", "EINVAL"])
def unlocked(request, monkeypatch):
    """A file system without locks: Lustre without -o flock, NFS without lockd or with read-only handles, FUSE."""
    number = getattr(errno, request.param)

    def refuse(handle, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)


def ended():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def left_by(pid, host=None):
    """The content of the owner file of another process."""
    _, here, numbering, began = lock._myself().split()
    return f"{pid} {host or here} {numbering} {began}"


def test_a_locked_folder_has_no_owner_file(names, tmp_path):
    held = lock_folder(*names)
    assert held.note == ""
    with pytest.raises(RunFolderError, match="another process is writing to the run folder"):
        lock_folder(*names)
    assert [path.name for path in tmp_path.iterdir()] == [".run.unfinished"]
    held.release()
    held.release()
    lock_folder(*names).release()


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_a_lock_that_is_held_is_no_lack_of_locks(names, monkeypatch, number):
    def held(handle, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", held)
    with pytest.raises(RunFolderError, match="another process"):
        lock_folder(*names)


def test_without_locks_a_file_keeps_others_out(unlocked, names, tmp_path):
    held = lock_folder(*names)
    assert OWNER in held.note
    with pytest.raises(RunFolderError) as caught:
        lock_folder(*names)
    assert f"process {os.getpid()} on {socket.gethostname()}" in str(caught.value)
    assert str(tmp_path / OWNER) in str(caught.value)
    held.release()
    held.release()
    assert [path.name for path in tmp_path.iterdir()] == [".run.unfinished"]
    lock_folder(*names).release()


def test_a_run_without_locks_leaves_nothing_but_itself(unlocked, tmp_path):
    with open_run(tmp_path / "runs" / "run", SearchConfig()) as folder:
        assert (tmp_path / "runs" / OWNER).exists()
        folder.close([], complete=True)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run"]
    with pytest.raises(KeyError), open_run(tmp_path / "other" / "run", SearchConfig()):
        raise KeyError
    assert not (tmp_path / "other").exists()


def test_what_a_process_left_that_has_ended_does_not_count(unlocked, names, tmp_path):
    (tmp_path / OWNER).write_text(left_by(ended()))
    held = lock_folder(*names)
    assert (tmp_path / OWNER).read_text() == lock._myself()
    held.release()


def test_a_number_that_is_used_again_is_another_process(unlocked, names, tmp_path):
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc")
    (tmp_path / OWNER).write_text(lock._myself().rpartition(" ")[0] + " 1")
    held = lock_folder(*names)
    assert (tmp_path / OWNER).read_text() == lock._myself()
    held.release()


@pytest.mark.parametrize("text", ["elsewhere", ""])
def test_what_cannot_be_known_to_have_ended_counts(unlocked, names, tmp_path, text):
    """A process of another host, and one that has not written its name yet."""
    (tmp_path / OWNER).write_text(left_by(ended(), text) if text else "")
    with pytest.raises(
        RunFolderError, match=r"only that host can tell whether it has ended: if it has, remove .*owner"
    ) as caught:
        lock_folder(*names)
    assert (text or "unknown") in str(caught.value)
    assert (tmp_path / OWNER).exists()


def test_of_many_that_find_a_dead_owner_one_takes_over(unlocked, names, tmp_path):
    (tmp_path / OWNER).write_text(left_by(ended()))
    start, won, lost = threading.Barrier(8), [], []

    def contend():
        start.wait()
        try:
            won.append(lock_folder(*names))
        except RunFolderError as error:
            lost.append(error)

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert {path.name for path in tmp_path.iterdir()} == {".run.unfinished", OWNER}


def test_who_lost_the_file_does_not_remove_that_of_the_next(unlocked, names, tmp_path):
    held = lock_folder(*names)
    (tmp_path / OWNER).write_text(left_by(1, "elsewhere"))  # somebody removed ours, and another process came
    held.release()
    assert (tmp_path / OWNER).exists()


def test_a_name_that_is_too_long_to_finish_a_run_is_refused_at_once(tmp_path):
    """Not after the search, when an older run of that name is moved out of the way."""
    name = "n" * (255 - len("..unfinished"))
    with pytest.raises(UsageError, match="shorter name"):
        lock_folder(tmp_path / f".{name}.unfinished", tmp_path / name)
    assert list(tmp_path.iterdir()) == []
