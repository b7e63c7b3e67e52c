"""How much memory data may take, as it is typed and as this machine says."""

import os

import pytest

from supermask.errors import UsageError
from supermask.runtime import memory


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("2GB", 2 * 10**9),
        ("500MB", 5 * 10**8),
        ("1.5 GiB", 3 * 2**29),
        ("64k", 64_000),
        ("12", 12),
        ("0", 0),
        ("3tb", 3 * 10**12),
    ],
)
def test_sizes_are_read_as_people_write_them(text, count):
    assert memory.parsed(text) == count


@pytest.mark.parametrize("text", ["", "much", "-1GB", "2 G B", "1e9", "GB", "nan", "2XB"])
def test_other_words_are_refused(text):
    with pytest.raises(UsageError, match=r"must be bytes with a unit, such as 2GB or 500MB"):
        memory.parsed(text)


@pytest.mark.parametrize("text", ["-1", "two", "1.5", "10000"])
def test_workers_are_counted_in_whole_numbers(text, monkeypatch):
    monkeypatch.setenv(memory.WORKERS, text)
    with pytest.raises(UsageError, match="whole number from 0 to 1024"):
        memory.workers()


def test_a_core_is_left_for_the_computation(monkeypatch):
    monkeypatch.delenv(memory.WORKERS, raising=False)
    for cores, expected in ((1, 1), (2, 1), (8, 7), (96, memory.MOST_WORKERS)):
        monkeypatch.setattr(memory, "cores", lambda cores=cores: cores)
        assert memory.workers() == expected


def test_a_setting_holds_only_meanwhile(monkeypatch):
    monkeypatch.setenv(memory.LIMIT, "1GB")
    monkeypatch.delenv(memory.WORKERS, raising=False)
    with memory.using(memory.LIMIT, "2GB"), memory.using(memory.WORKERS, "3"):
        assert (memory.resident_limit(), memory.workers()) == (2 * 10**9, 3)
    assert memory.resident_limit() == 10**9
    assert memory.WORKERS not in os.environ


def test_a_control_group_that_leaves_less_than_the_machine_has_the_say(tmp_path, monkeypatch):
    free = memory.half_of_free()
    assert 0 < free <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert memory.half_of_free() > 10**6
    (tmp_path / "memory.max").write_text("5000\n")
    assert memory.half_of_free() == 2000


def test_bytes_are_shown_in_three_digits():
    assert [memory.shown(count) for count in (999, 1500, 2_345_678, 150 * 10**9)] == [
        "999 bytes",
        "1.5 kB",
        "2.35 MB",
        "150 GB",
    ]
