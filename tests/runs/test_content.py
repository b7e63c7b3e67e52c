"""Fingerprints in run folders: read, compared, and part of a folder's default name."""

from pathlib import Path

import pytest
from helpers import open_run

from supermask.config import SearchConfig
from supermask.errors import BadFileError, RunFolderError
from supermask.resolve import resolve
from supermask.runs import checkpoints, content
from supermask.runs.index import default_path
from supermask.runs.results import Run

pytestmark = pytest.mark.usefixtures("compiled_quickly")

CONFIG = resolve(SearchConfig(arch="lenet300"))
ROOT = Path("runs")
MADE_OF = {"train images": "9x8x8x1 aa", "means": "0.5", "classes": "3 bb", "arch code": "cc", "files": "dd"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"files": "ee"}, []),
        ({"train images": "9x8x8x1 ab"}, ["train images differ"]),
        ({"train images": "7x8x8x1 ab", "means": "0.4"}, ["train images 9x8x8x1 there, 7x8x8x1 here"]),
        ({"means": "0.4"}, ["means differ"]),
        ({"classes": "4 bc", "arch code": "dc"}, ["classes 3 there, 4 here", "arch code differs"]),
        ({"method code": "ee"}, []),
    ],
)
def test_differences_are_named(change, expected):
    assert content.differences(MADE_OF, MADE_OF | change) == expected


def test_earlier_runs_differ_in_nothing(tmp_path):
    assert content.read(tmp_path) == {}
    content.check(tmp_path, MADE_OF)


@pytest.mark.parametrize("text", ["", "[]", '{"classes": 3}', '{"classes": '])
def test_a_damaged_file_is_named_with_the_way_out(tmp_path, text):
    (tmp_path / "content.json").write_text(text)
    with pytest.raises(BadFileError, match=r"content\.json .*--force starts over"):
        content.read(tmp_path)


def test_other_content_is_another_default_folder_and_none_is_the_folder_of_old():
    plain = default_path(ROOT, CONFIG, CONFIG)
    assert plain.name.endswith(CONFIG.digest(CONFIG))
    assert default_path(ROOT, CONFIG, CONFIG, {}) == plain
    found = {
        default_path(ROOT, CONFIG, CONFIG, made_of).name
        for made_of in ({}, MADE_OF, MADE_OF | {"files": "ee"}, dict(reversed(MADE_OF.items())))
    }
    assert len(found) == 3
    assert len({len(name) for name in found}) == 1


@pytest.mark.parametrize("complete", [True, False])
def test_a_folder_made_of_something_else_is_refused(tmp_path, complete):
    path = tmp_path / "run"
    with open_run(path, CONFIG, made_of=MADE_OF) as folder:
        folder.add_checkpoint(1, {}, {})
        folder.close([], complete=complete)
    assert Run.open(path).content == MADE_OF
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with (
        pytest.raises(RunFolderError, match=r"run was made of other .*\(arch code differs\); choose another --out"),
        open_run(path, CONFIG, made_of=MADE_OF | {"arch code": "dc"}),
    ):
        pass
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    with open_run(path, CONFIG, made_of=MADE_OF | {"arch code": "dc"}, force=True) as folder:
        folder.close([], complete=True)
    assert Run.open(path).content["arch code"] == "dc"


def test_what_a_dead_process_left_is_refused_too(tmp_path):
    path = tmp_path / "run"
    with open_run(path, CONFIG, made_of=MADE_OF) as folder:
        folder.add_checkpoint(1, {}, {})
    with (
        pytest.raises(RunFolderError, match=r"/run was made of other .*train images differ"),
        open_run(path, CONFIG, made_of=MADE_OF | {"train images": "9x8x8x1 ab"}),
    ):
        pass
    assert checkpoints.paths(folder.working)
    with open_run(path, CONFIG, made_of=MADE_OF) as folder:
        assert folder.resumed


def test_a_stopped_run_of_an_earlier_version_is_taken_as_it_is(tmp_path):
    path = tmp_path / "run"
    with open_run(path, CONFIG) as folder:
        folder.add_checkpoint(1, {}, {})
        folder.close([], complete=False)
    assert Run.open(path).content == {}
    with open_run(path, CONFIG, made_of=MADE_OF) as folder:
        assert folder.resumed
        folder.close([], complete=True)
    assert Run.open(path).content == MADE_OF
