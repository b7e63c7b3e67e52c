"""Run folders: named for ever, whole or absent, of one config and one process at a time."""

import errno
import json
import os
import re
import stat
from dataclasses import dataclass, fields

import numpy as np
import pytest
from helpers import add_ticket, open_run

from supermask.config import SearchConfig
from supermask.errors import BadFileError, RunFolderError, SupermaskError, UsageError
from supermask.runs.folder import claimed
from supermask.runs.index import LONGEST, default_path, finished, read_config
from supermask.storage.atomic import cut, write_atomic
from supermask.ticket import Ticket
from supermask.weights import inits
from supermask.weights.shapes import fingerprint

pytestmark = pytest.mark.usefixtures("compiled_quickly")

DEFAULTS = SearchConfig(
    arch="lenet300",
    init="kaiming-normal",
    epochs=30,
    batch_size=128,
    augment="none",
    options={"temperature": 1.0, "hard": "binary"},
)
CONFIG = DEFAULTS.replace(seed=7, epochs=2)
NUMBERS = {"val_accuracy": 0.5, "train_accuracy": 0.5, "density": 0.5, "epochs": 1, "ticket_bytes": 1}
OTHER = {
    "arch_options": {"norm": "batch"},
    "arch": "conv4",
    "dataset": "mnist",
    "method": "sigmoid",
    "options": {"temperature": 2.0, "hard": "binary"},
    "density": 0.25,
    "init": "glorot-normal",
    "scale_by_density": True,
    "maskable": "embed",
    "unmasked": "head",
    "train": "bias",
    "gates": "one",
    "weights": "given.safetensors",
    "weights_sha256": "0" * 64,
    "within": "ticket.safetensors",
    "within_sha256": "0" * 64,
    "activation": "elu",
    "width": 2.0,
    "image_size": 16,
    "normalise": "unit",
    "augment": "crop-flip",
    "validation": 0.2,
    "epochs": 3,
    "batch_size": 64,
    "optimizer": "adam",
    "learning_rate": 0.5,
    "momentum": 0.5,
    "weight_decay": 0.01,
    "clip": 1.0,
    "warmup": 2.0,
    "clip_each": 1.0,
    "label_smoothing": 0.1,
    "cycles": 2,
    "order": "once",
    "schedule": "constant",
    "select": "best",
    "precision": "bf16",
    "conv": "xla",
    "devices": 2,
    "micro_batch": 8,
    "seed": 1,
    "seeds": 2,
}


def make_ticket(seed=7):
    shapes = {"head/kernel": (5, 2)}
    return Ticket(
        config=CONFIG.replace(seed=seed),
        shapes=shapes,
        image_shape=(1, 5, 1),
        mask={"head/kernel": np.random.default_rng(seed).random((5, 2)) < 0.5},
        state={},
        fingerprint=fingerprint(inits.draw("kaiming-normal", seed, shapes)),
        metrics={"val_accuracy": 0.5},
    )


def fill(path, config=CONFIG, complete=True, force=False, val=0.5):
    """A run folder made as `search` makes it; its results."""
    with open_run(path, config, force=force) as folder:
        folder.add_metrics({"epoch": 1, "loss": 0.25})
        folder.add_metrics({"epoch": 2, "loss": 0.125})
        ticket = add_ticket(folder, make_ticket())
        results = [NUMBERS | {"ticket": str(ticket), "run": str(path), "seed": 7, "val_accuracy": val}]
        folder.close(results, complete=complete)
    return results


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The name.


def test_default_name(tmp_path):
    path = default_path(tmp_path, CONFIG.replace(density=0.3), DEFAULTS)
    assert path.parent == tmp_path
    assert re.fullmatch(r"lenet300-digits-edge-popup-d0\.3-s7-[0-9a-f]{8}", path.name)


@pytest.mark.parametrize("name", [item.name for item in fields(SearchConfig)])
def test_hash_holds_every_field(name):
    """Every field has a value in OTHER, so that no new field is forgotten in the hash."""
    base = DEFAULTS.replace(init=None) if name == "weights" else DEFAULTS  # given weights are not drawn
    hashes = {config.digest(DEFAULTS) for config in (base, base.replace(**{name: OTHER[name]}))}
    assert len(hashes) == 2


def test_hash_is_unchanged_by_values_equal_to_the_defaults():
    typed = SearchConfig(**{**DEFAULTS.to_dict(), "density": 0.3})
    assert typed.digest(DEFAULTS) == DEFAULTS.replace(density=0.3).digest(DEFAULTS)


def test_whole_number_is_the_same_density_however_written():
    """1 of a JSON file or of a library call, 1.0 of the command line."""
    assert DEFAULTS.replace(density=1).digest(DEFAULTS) == DEFAULTS.replace(density=1.0).digest(DEFAULTS)


def test_hash_does_not_depend_on_the_order_of_options():
    swapped = {"hard": "continuous", "temperature": 3.0}
    one = DEFAULTS.replace(options=swapped)
    assert one.digest(DEFAULTS) == DEFAULTS.replace(options=dict(reversed(swapped.items()))).digest(DEFAULTS)


def test_new_field_renames_no_old_run():
    @dataclass(frozen=True)
    class Later(SearchConfig):
        colour: str = "red"

    old, new = CONFIG.digest(DEFAULTS), Later(**CONFIG.to_dict())
    assert new.digest(Later(**DEFAULTS.to_dict())) == old
    assert new.replace(colour="blue").digest(Later(**DEFAULTS.to_dict())) != old


def test_new_option_of_a_method_renames_no_old_run():
    """A method got the option `steps`; a run with another option changed keeps its name."""
    changed = {"temperature": 2.0, "hard": "binary"}
    before = DEFAULTS.replace(options=changed).digest(DEFAULTS)
    defaults = DEFAULTS.replace(options={**DEFAULTS.options, "steps": 5})
    assert DEFAULTS.replace(options={**changed, "steps": 5}).digest(defaults) == before
    assert DEFAULTS.replace(options={**changed, "steps": 6}).digest(defaults) != before


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "npz:/a b/../c:d.npz"},
        {"dataset": "folder:pictures/of cats"},
        {"arch": "mypkg.nets:MyNet"},
        {"method": "mypkg.mine:Own"},
    ],
)
def test_name_of_a_users_own_is_one_plain_word(tmp_path, change):
    path = default_path(tmp_path, CONFIG.replace(**change), DEFAULTS)
    assert path.parent == tmp_path
    assert re.fullmatch(r"[\w.+-]+", path.name)


def test_long_dataset_path_makes_a_usable_name(tmp_path):
    config = CONFIG.replace(dataset="npz:/" + "/".join(["folder-of-data"] * 20) + "/images.npz")
    path = default_path(tmp_path, config, DEFAULTS)
    fill(path, config)
    assert finished(path, config)


FITS = "folder:/" + "abcdefghi/" * 20 + "images"


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "folder:" + "数" * 70},
        {"dataset": "npz:" + "é" * 200, "arch": "n" * 70 + ":Net", "method": "mypkg.mine:" + "M" * 70},
        {"dataset": "folder:" + "数" * 60, "arch": "networks." + "ネ" * 40 + ":Net", "seed": 2**32 - 1},
        {"dataset": "folder:" + "\U0001f600" * 60 + "\udcff"},
    ],
)
def test_name_fits_a_file_system_that_counts_bytes(tmp_path, change):
    config = CONFIG.replace(**change)
    path = default_path(tmp_path, config, DEFAULTS.replace(**change))
    assert len(os.fsencode(path.name)) <= LONGEST
    path.name.encode()  # no character is cut in two
    fill(path, config)
    assert finished(path, config)
    fill(path, config, force=True)


def test_names_that_are_cut_differ_by_their_hash(tmp_path):
    """In what was cut off, or in a value."""
    names = set()
    for dataset in ("folder:/a/" + "数" * 70, "folder:/b/" + "数" * 70):
        for change in ({}, {"epochs": 3}):
            config = CONFIG.replace(dataset=dataset, method="m" * 60 + ":M", **change)
            names.add(default_path(tmp_path, config, DEFAULTS.replace(dataset=dataset, method=config.method)).name)
    assert len(names) == 4


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({}, "lenet300-digits-edge-popup-d0.5-s7-"),
        ({"dataset": "folder:数/猫", "density": 0.3}, "lenet300-folder_数_猫-edge-popup-d0.3-s7-"),
        ({"dataset": FITS}, f"lenet300-{FITS[-60:].replace('/', '_')}-edge-popup-d0.5-s7-"),
    ],
)
def test_names_that_always_fitted_are_kept(tmp_path, change, name):
    """Finished runs are found by their names."""
    config, defaults = CONFIG.replace(**change), DEFAULTS.replace(**{**change, "density": 0.5})
    assert default_path(tmp_path, config, defaults).name == name + config.digest(defaults)


def test_density_of_sixteen_digits_does_not_spoil_the_name(tmp_path):
    assert "-d0.3-" in default_path(tmp_path, CONFIG.replace(density=1 - 0.7), DEFAULTS).name


# Whole or absent.


def test_folder_appears_whole(tmp_path):
    path = tmp_path / "runs" / "one"
    with open_run(path, CONFIG) as folder:
        folder.add_metrics({"epoch": 1, "loss": 0.5})
        ticket = add_ticket(folder, make_ticket())
        assert not path.exists()
        assert [item.name for item in path.parent.glob("*") if not item.name.startswith(".")] == []
        folder.close([NUMBERS | {"ticket": str(ticket)}], complete=True)
        assert path.is_dir()
    assert ticket == path / "ticket-s7.safetensors"
    assert set(snapshot(path.parent)) == {
        "one",
        "one/config.json",
        "one/metrics.jsonl",
        "one/result.json",
        "one/ticket-s7.safetensors",
    }
    assert SearchConfig.from_dict(read_config(path / "config.json")) == CONFIG
    assert Ticket.load(ticket).to_bytes() == make_ticket().to_bytes()
    assert [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()] == [
        {"epoch": 1, "loss": 0.5}
    ]


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, SupermaskError])
def test_nothing_is_left_unless_closed(tmp_path, error):
    def work():
        with open_run(tmp_path / "one", CONFIG) as folder:
            folder.add_metrics({"epoch": 1})
            add_ticket(folder, make_ticket())
            if error:
                raise error("stop")

    if error:
        with pytest.raises(error, match="stop"):
            work()
    else:
        work()
    assert snapshot(tmp_path) == {}


def test_no_folder_above_is_left_either(tmp_path):
    with open_run(tmp_path / "runs" / "one", CONFIG):
        pass
    assert snapshot(tmp_path) == {}


def test_folder_above_that_holds_other_runs_stays(tmp_path):
    fill(tmp_path / "runs" / "one")
    before = snapshot(tmp_path)
    with open_run(tmp_path / "runs" / "two", CONFIG):
        pass
    assert snapshot(tmp_path) == before


def test_older_run_is_replaced_only_when_the_new_one_is_whole(tmp_path):
    path = tmp_path / "one"
    fill(path)
    before = snapshot(tmp_path)
    with open_run(path, CONFIG, force=True) as folder:
        folder.add_metrics({"epoch": 1})
        assert snapshot(path) == {name.removeprefix("one/"): data for name, data in before.items() if name != "one"}
    assert snapshot(tmp_path) == before
    fill(path, force=True, val=0.75)
    assert set(snapshot(tmp_path)) == set(before)
    assert [row["val_accuracy"] for row in finished(path, CONFIG)] == [0.75]


def test_empty_folder_is_as_good_as_none(tmp_path):
    (tmp_path / "one").mkdir()
    assert finished(tmp_path / "one", CONFIG) is None
    fill(tmp_path / "one")
    assert finished(tmp_path / "one", CONFIG)


def test_folder_that_appeared_meanwhile_is_not_destroyed(tmp_path):
    """Somebody else's folder took the name while the search ran."""
    path = tmp_path / "one"
    with open_run(path, CONFIG) as folder:
        add_ticket(folder, make_ticket())
        path.mkdir()
        (path / "thesis.txt").write_text("years of work")
        with pytest.raises(RunFolderError, match="one"):
            folder.close([], complete=True)
    assert (path / "thesis.txt").read_text() == "years of work"


# One process at a time.


def test_second_process_is_refused_and_the_first_goes_on(tmp_path):
    path = tmp_path / "one"
    with open_run(path, CONFIG) as folder:
        folder.add_metrics({"epoch": 1})
        ticket = add_ticket(folder, make_ticket())
        for force in (False, True):
            with pytest.raises(RunFolderError) as caught, open_run(path, CONFIG, force=force):
                pass
            assert str(path) in one_line(caught)
        folder.close([NUMBERS | {"ticket": str(ticket)}], complete=True)
    assert json.loads((path / "metrics.jsonl").read_text()) == {"epoch": 1}
    assert finished(path, CONFIG)


def test_other_folders_are_not_locked(tmp_path):
    with open_run(tmp_path / "one", CONFIG) as one, open_run(tmp_path / "two", CONFIG) as two:
        assert one.working.is_dir()
        assert two.working.is_dir()


def test_what_a_dead_process_left_is_taken_over(tmp_path):
    with open_run(tmp_path / "one", CONFIG):
        [hidden] = tmp_path.iterdir()
    hidden.mkdir()
    (hidden / "metrics.jsonl").write_text('{"epoch": 99}\n')
    (hidden / ".ticket-s7.safetensors.x1y2z3").write_bytes(b"half a ticket")
    (hidden / "ticket-s3.safetensors").write_bytes(b"of another time")
    fill(tmp_path / "one")
    assert set(snapshot(tmp_path)) == {
        "one",
        *(f"one/{name}" for name in ("config.json", "metrics.jsonl", "result.json", "ticket-s7.safetensors")),
    }
    assert "99" not in (tmp_path / "one" / "metrics.jsonl").read_text()


# Of one config.


def test_folder_of_another_config_is_refused(tmp_path):
    path = tmp_path / "one"
    fill(path)
    before = snapshot(tmp_path)
    config = CONFIG.replace(density=0.25, epochs=5)

    def attempt():
        with open_run(path, config):
            pass

    for look in (lambda: finished(path, config), attempt):
        with pytest.raises(RunFolderError) as caught:
            look()
        message = one_line(caught)
        for word in (str(path), "density", "0.25", "0.5", "epochs", "--force"):
            assert word in message
        for word in ("batch_size", "arch", "seed"):
            assert word not in message
    assert snapshot(tmp_path) == before
    fill(path, config, force=True)
    assert SearchConfig.from_dict(read_config(path / "config.json")) == config


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_no_run_folder_is_never_touched(tmp_path, kind, force):
    path = tmp_path / "one"
    if kind == "folder":
        path.mkdir()
        (path / "thesis.txt").write_text("years of work")
    else:
        path.write_text("years of work")
    before = snapshot(tmp_path)
    with pytest.raises(RunFolderError) as caught, open_run(path, CONFIG, force=force):
        pass
    assert str(path) in one_line(caught)
    with pytest.raises(RunFolderError):
        finished(path, CONFIG)
    assert snapshot(tmp_path) == before


def test_config_of_a_later_version_is_refused(tmp_path):
    path = tmp_path / "one"
    fill(path)
    (path / "config.json").write_text(json.dumps({**CONFIG.to_dict(), "colour": "red"}))
    with pytest.raises(RunFolderError, match="colour"):
        finished(path, CONFIG)


def stopped(path, number, epochs):
    """A run that was stopped with one checkpoint."""
    with open_run(path, CONFIG) as folder:
        for epoch in range(epochs):
            folder.add_metrics({"epoch": epoch})
        folder.add_checkpoint(number, {"number": number}, {"x": np.zeros(3, np.float32)})
        folder.close([], complete=False)


def test_what_is_copied_of_a_stopped_run_stays_only_once_there_is_more(tmp_path):
    path = tmp_path / "run"
    stopped(path, 3, epochs=2)
    for spoil in (False, True):
        if spoil:
            (path / "metrics.jsonl").unlink()
            with pytest.raises(BadFileError, match="metrics are cut short"), open_run(path, CONFIG):
                pass
        else:
            with open_run(path, CONFIG) as folder:
                assert folder.resumed[0]["number"] == 3
        assert [item.name for item in tmp_path.iterdir()] == ["run"]


def test_a_newer_stopped_run_goes_before_what_an_older_process_left(tmp_path):
    path = tmp_path / "run"
    with open_run(path, CONFIG) as folder:
        folder.add_checkpoint(1, {"number": 1}, {"x": np.zeros(3, np.float32)})
    assert [item.name for item in tmp_path.iterdir()] == [".run.unfinished"]
    older = tmp_path / "older"
    (tmp_path / ".run.unfinished").rename(older)
    stopped(path, 3, epochs=1)
    older.rename(tmp_path / ".run.unfinished")
    with open_run(path, CONFIG) as folder:
        assert folder.resumed[0]["number"] == 3


def test_a_read_only_run_is_replaced_without_a_trace(tmp_path):
    path = tmp_path / "run"
    fill(path)
    path.chmod(0o555)
    for _ in range(2):
        fill(path, force=True)
    assert [item.name for item in tmp_path.iterdir()] == ["run"]


def test_only_regular_files_are_written_over_and_links_stay(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is not a regular file"):
        write_atomic(tmp_path / "pipe", b"x")
    (tmp_path / "link").symlink_to("file")
    for data in (b"first", b"second"):
        write_atomic(tmp_path / "link", data)
        assert (tmp_path / "file").read_bytes() == data
    assert (tmp_path / "link").is_symlink()


def test_who_is_done_leaves_the_next_owner_alone(tmp_path):
    """The hidden folder of a closed run is gone; one that lies there since is another's."""
    with claimed(tmp_path / "run") as first:
        first.begin(CONFIG)
        first.close([], complete=False)
        with claimed(tmp_path / "run") as second:
            first.discard()
            assert second.working.is_dir()
            second.begin(CONFIG)


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError) as caught, open_run(tmp_path / "file" / "one", CONFIG):
        pass
    assert "file" in one_line(caught)
    assert list(snapshot(tmp_path)) == ["file"]


# Finished or not.


def test_finished_run_gives_its_results(tmp_path):
    results = fill(tmp_path / "one")
    assert finished(tmp_path / "one", CONFIG) == [row | {"warnings": []} for row in results]  # as of earlier versions
    assert finished(tmp_path / "two", CONFIG) is None


@pytest.mark.parametrize("wrong", ["one", ["one", 2], None, {"one": "two"}])
def test_warnings_that_are_no_list_of_lines_are_damaged(tmp_path, wrong):
    [row] = fill(tmp_path / "one")
    path = tmp_path / "one" / "result.json"
    path.write_text(json.dumps({"complete": True, "results": [row | {"warnings": wrong}]}))
    with pytest.raises(BadFileError, match="--force starts over"):
        finished(tmp_path / "one", CONFIG)


def test_moved_run_names_its_new_place(tmp_path):
    fill(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    [row] = finished(tmp_path / "two", CONFIG)
    assert row["run"] == str(tmp_path / "two")
    assert row["ticket"] == str(tmp_path / "two" / "ticket-s7.safetensors")


def test_interrupted_run_is_not_finished_and_can_be_searched_anew(tmp_path):
    fill(tmp_path / "one", complete=False)
    assert finished(tmp_path / "one", CONFIG) is None
    fill(tmp_path / "one")
    assert finished(tmp_path / "one", CONFIG)


DAMAGED = {
    "empty": "",
    "cut off": '{"complete": tr',
    "a list": "[]",
    "a number": "3",
    "null": "null",
    "no results": '{"complete": true}',
    "no complete": '{"results": []}',
    "results of another kind": '{"complete": true, "results": 3}',
    "rows of another kind": '{"complete": true, "results": ["x"]}',
    "row without ticket": '{"complete": true, "results": [{"seed": 0}]}',
    "ticket of another kind": '{"complete": true, "results": [{"ticket": 0}]}',
    "deep": "[" * 200_000,
    "not text": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_result_is_a_bad_file(tmp_path, name):
    path = tmp_path / "one"
    fill(path)
    content = DAMAGED[name]
    (path / "result.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadFileError) as caught:
        finished(path, CONFIG)
    message = one_line(caught)
    assert str(path / "result.json") in message
    assert "--force" in message
    fill(path, force=True)
    assert finished(path, CONFIG)


@pytest.mark.parametrize("name", ["result.json", "ticket-s7.safetensors"])
@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_finished_run_with_a_bad_file_names_it_and_the_way_out(tmp_path, name, how):
    path = tmp_path / "one"
    fill(path)
    if how == "missing":
        (path / name).unlink()
    else:
        (path / name).write_bytes((path / name).read_bytes()[:-1])
        if name == "result.json":
            (path / name).write_bytes((path / name).read_bytes()[:-9])
    with pytest.raises(BadFileError, match="--force") as caught:
        finished(path, CONFIG)
    assert str(path / name) in one_line(caught)


@pytest.mark.parametrize("content", ["", "{", "[1]", "3", "null", b"\xff\xfe\x00", "[" * 200_000])
def test_config_file_that_is_none(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadFileError) as caught:
        read_config(path)
    assert str(path) in one_line(caught)


def test_config_file_that_is_missing(tmp_path):
    for path in (tmp_path / "config.json", tmp_path):
        with pytest.raises(BadFileError, match=re.escape(str(path))):
            read_config(path)


# Files under all this.


def test_file_is_written_with_the_users_permissions(tmp_path):
    old = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a", b"1")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    assert [item.name for item in tmp_path.iterdir()] == ["a"]


def test_failed_write_leaves_nothing(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").write_text("1")
    before = snapshot(tmp_path)
    with pytest.raises(SupermaskError, match="taken"):
        write_atomic(tmp_path / "taken", b"1")
    with pytest.raises(UsageError, match="missing"):
        write_atomic(tmp_path / "missing" / "a", b"1")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["n" * 255, "数" * 85, "a" + "é" * 127, os.fsdecode(b"\xff" * 255)])
def test_longest_file_name_can_be_written(tmp_path, name):
    path = tmp_path / name
    write_atomic(path, b"1")
    assert path.read_bytes() == b"1"
    assert [item.name for item in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("size", range(1, 8))
def test_a_name_is_cut_between_characters(size):
    found = cut("a数é", size)
    assert "a数é".endswith(found)
    assert size - 3 < len(found.encode()) <= size


def test_a_file_system_without_permissions_or_folders_to_flush_is_written_to(tmp_path, monkeypatch):
    def chmod(path, mode):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def fsync(handle, flush=os.fsync):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(handle)

    monkeypatch.setattr(os, "chmod", chmod)
    monkeypatch.setattr(os, "fsync", fsync)
    write_atomic(tmp_path / "a", b"1")
    assert (tmp_path / "a").read_bytes() == b"1"
