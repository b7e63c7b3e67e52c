"""Processes that find each other and agree, here as threads: no JAX is started."""

import queue
import socket
import threading
import time
from typing import ClassVar

import pytest

from supermask.errors import BadFileError, SupermaskError, UsageError
from supermask.runtime import channel, hosts, meeting
from supermask.runtime.channel import Connection
from supermask.runtime.slurm import first_node, of_slurm
from supermask.runtime.team import Hosts, Team

FACTS = {"epochs": 3, "options": {"rate": 0.1}}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@pytest.fixture(autouse=True)
def nothing_stays_open(monkeypatch):
    """The ends of all connections are closed after a test, as they are when a process ends."""
    for name in ("OWN_WORD", "LEADERS_WORD"):
        monkeypatch.setattr(f"supermask.runtime.team.{name}", 0.2)
    Member.all.clear()
    yield
    for member in Member.all:
        member.team.leaving = True
        for peer in member.team.peers.values():
            peer.close()


class Member(threading.Thread):
    """A process of a run: joins, does something with its team, and keeps what that came to."""

    all: ClassVar = []

    def __init__(self, process, count, port, work=lambda team: None, facts=FACTS):
        super().__init__(daemon=True)
        self.all.append(self)
        self.ended, self.result, self.facts, self.work = queue.SimpleQueue(), None, facts, work
        self.team = Team(Hosts(f"127.0.0.1:{port}", count, process), self.ended.put)
        self.start()

    def run(self):
        try:
            meeting.gather(self.team, self.facts)
            self.result = self.work(self.team)
        except Exception as error:
            self.result = error


def members(count, work=lambda team: None, **facts_of):
    port = free_port()
    return [Member(i, count, port, work, facts_of.get(f"of_{i}", FACTS)) for i in range(count)]


def results(found):
    for member in found:
        member.join(timeout=30)
    return [member.result for member in found]


def test_all_get_the_values_of_all_in_order_and_the_bytes_of_the_first():
    def work(team):
        mine = [team.hosts.process, None, "é"]
        return team.exchange(mine), team.exchange(1.5), team.from_leader(bytes([team.hosts.process]) * 100_000)

    everyone = [[i, None, "é"] for i in range(3)], [1.5] * 3, bytes(100_000)
    assert results(members(3, work)) == [everyone] * 3


def test_a_process_alone_agrees_with_itself():
    assert (hosts.processes(), hosts.leads()) == (1, True)
    assert (hosts.exchange(3), hosts.of_leader("a"), hosts.data_of_leader(b"x")) == ([3], "a", b"x")


def test_all_end_when_one_dies_without_a_word():
    found = members(3)
    results(found)
    for link in found[2].team.peers.values():
        link.close()
    for member in found[:2]:
        error = member.ended.get(timeout=10)
        assert (error.exit_code, str(error).partition(" on ")[0]) == (1, "process 2")
        assert "has ended without a word" in str(error)


@pytest.mark.parametrize("first", [0, 2])
def test_all_end_as_the_first_that_ends_with_an_error(first):
    found = members(3)
    results(found)
    found[first].team.farewell(BadFileError("a.npz does not exist"))
    for member in found[:first] + found[first + 1 :]:
        error = member.ended.get(timeout=10)
        assert error.exit_code == BadFileError.exit_code
        assert str(error) == f"process {first} on {socket.gethostname()}: a.npz does not exist"
    assert found[first].ended.empty()


def test_a_process_with_the_same_error_ends_by_itself():
    found = members(2)
    results(found)
    for member in found:
        member.team.farewell(BadFileError("a.npz does not exist"))
    time.sleep(0.3)
    assert [member.ended.empty() for member in found] == [True, True]


def test_processes_that_were_called_with_other_words_are_refused():
    first, other = results(members(2, of_1=FACTS | {"epochs": 4}))
    assert isinstance(first, UsageError)
    assert str(first) == str(other)
    assert "epochs 4 there, 3 in process 0" in str(first)
    assert other.exit_code == UsageError.exit_code


def test_a_process_that_is_there_already_is_refused():
    port = free_port()
    found = [Member(0, 3, port), Member(1, 3, port), Member(1, 3, port)]
    assert "joined twice" in str(results(found[:1])[0])


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1\r\n\r\n", b"v" + b"\xff" * 8 + b"x", b""])
def test_strangers_are_left_standing(words):
    port = free_port()
    first = Member(0, 2, port, lambda team: team.exchange(0))
    for _ in range(100):
        try:
            with socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(words)
            break
        except ConnectionRefusedError:
            time.sleep(0.02)
    second = Member(1, 2, port, lambda team: team.exchange(1))
    assert results([first, second]) == [[0, 1]] * 2


def test_after_an_error_a_python_program_is_told_to_start_a_new_process():
    """Only in the process itself: the others of the run have ended."""

    def work(team):
        team.exchange(1)
        team.farewell(UsageError("no"))
        texts = []
        for call in (lambda: team.exchange(2), lambda: team.from_leader(b"")):
            with pytest.raises(SupermaskError) as raised:
                call()
            texts.append(str(raised.value))
        return texts

    for texts in results(members(2, work)):
        assert len(texts) == 2
        assert all("start a new process" in text for text in texts)


def test_if_the_processes_never_met_this_one_goes_on_alone(monkeypatch):
    monkeypatch.setattr(meeting, "PATIENCE", 0.2)
    found = Hosts(f"127.0.0.1:{free_port()}", 2, 0)
    with (
        pytest.raises(SupermaskError, match="process 1 has not joined"),
        hosts.joined(found, FACTS, lambda error: None),
    ):
        pass
    assert (hosts.processes(), hosts.exchange(3)) == (1, [3])


def test_who_does_not_come_is_named(monkeypatch):
    monkeypatch.setattr(meeting, "PATIENCE", 0.2)
    port = free_port()
    [alone] = results([Member(0, 3, port)])
    assert "process 1, 2 has not joined" in str(alone)
    [alone] = results([Member(1, 2, port)])
    assert f"process 0 is not at 127.0.0.1:{port}" in str(alone)


def test_a_port_that_is_taken_is_a_wrong_word():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        [alone] = results([Member(0, 2, taken.getsockname()[1])])
    assert isinstance(alone, UsageError)
    assert "cannot listen" in str(alone)


def test_a_relay_keeps_a_connection_that_the_other_side_has_ended():
    with socket.create_server(("127.0.0.1", 0)) as there:
        here = socket.create_connection(("127.0.0.1", channel.relay(*there.getsockname())), timeout=5)
        other, _ = there.accept()
    with here, other:
        here.sendall(b"question")
        assert other.recv(8) == b"question"
        other.sendall(b"answer")
        other.close()
        assert here.recv(6) == b"answer"
        here.settimeout(0.3)
        with pytest.raises(TimeoutError):
            here.recv(1)


def test_a_greeting_may_not_be_long():
    one, other = socket.socketpair()
    with one, other:
        one.sendall(b"v" + (1 << 40).to_bytes(8, "big"))
        with pytest.raises(OSError, match="too long"):
            Connection.greeting(_Plain(other), 1)


class _Plain(Connection):
    """Over a socket that is not of TCP."""

    def __init__(self, link):
        self._link = link


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (("node", 2, 0), "HOST:PORT"),
        (("node:0", 2, 0), "HOST:PORT"),
        (("node:99999", 2, 0), "HOST:PORT"),
        ((":80", 2, 0), "HOST:PORT"),
        (("node:80", 0, 0), "at least 1"),
        (("node:80", 2, 2), "from 0 to 1"),
        (("node:80", 2, -1), "from 0 to 1"),
    ],
)
def test_what_cannot_be(fields, words):
    with pytest.raises(UsageError, match=words):
        Hosts(*fields)


def test_devices_are_spread_over_processes():
    assert Hosts("node:80", 2, 0).local(8) == 4
    assert Hosts("node:80", 2, 0).local(None) is None
    assert Hosts("[::1]:80", 2, 0).address == ("::1", 80)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node", "node"),
        ("node1,node2", "node1"),
        ("gpu[007-015],cpu3", "gpu007"),
        ("gpu[3,7-9]", "gpu3"),
        ("rack1-n[2-4]-ib,x", "rack1-n2-ib"),
        ("a.b.c", "a.b.c"),
    ],
)
def test_the_first_node_of_a_list(nodes, first):
    assert first_node(nodes) == first


def test_what_slurm_says(monkeypatch):
    for name, value in {"JOB_ID": "70", "NTASKS": "4", "PROCID": "3", "STEP_NODELIST": "n[2-5]"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURM_STEP_ID", "1")
    found = of_slurm()
    assert (found.processes, found.process, found.address[0]) == (4, 3, "n2")
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    assert of_slurm().address != found.address  # another step of the job listens elsewhere
    monkeypatch.setenv("SLURM_PROCID", "three")
    with pytest.raises(UsageError, match="whole number"):
        of_slurm()
    monkeypatch.delenv("SLURM_PROCID")
    with pytest.raises(UsageError, match="SLURM_PROCID is not set"):
        of_slurm()
