"""A user's own modules are found in the current folder, and replace no library."""

import sys
from pathlib import Path

import pytest

from supermask.runtime.own_modules import forget_current_folder, import_own


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


@pytest.mark.parametrize("file", ["mynets_a.py", "mynets_b/__init__.py", "mynets_c/deep/nets.py"])
def test_the_current_folder_is_searched_last(here, file):
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text("VALUE = 42\n")
    name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert import_own(name).VALUE == 42
    assert sys.path[-1] == str(here)
    assert import_own(name).VALUE == 42
    assert sys.path.count(str(here)) == 1


@pytest.mark.parametrize(
    ("file", "name", "words"),
    [
        ("random.py", "random", ["random.py", "rename yours"]),
        ("sys.py", "sys", ["part of Python"]),
        ("click.py", "click", ["click/__init__.py"]),
        ("click/nets.py", "click.nets", ["click/nets.py"]),
    ],
)
def test_a_library_of_the_same_name_is_said(here, file, name, words):
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_text("VALUE = 42\n")
    with pytest.raises(ModuleNotFoundError) as caught:
        import_own(name)
    assert [word for word in words if word not in str(caught.value)] == []
    assert str(here / file) in str(caught.value)


def test_a_folder_of_other_files_hides_no_installed_module(here):
    Path("email").mkdir()
    Path("email/letter.txt").touch()
    assert import_own("email.policy").default


def test_a_module_found_by_way_of_a_link_is_ones_own(here, tmp_path_factory):
    Path("mynets_d.py").write_text("VALUE = 42\n")
    link = tmp_path_factory.mktemp("links") / "project"
    link.symlink_to(here)
    sys.path.insert(0, str(link))
    assert import_own("mynets_d").VALUE == 42


def test_the_current_folder_leaves_the_path_unless_pythonpath_names_it(here, monkeypatch):
    rest = list(sys.path)
    monkeypatch.setenv("PYTHONPATH", ":/somewhere")
    sys.path[:0] = ["", str(here)]
    forget_current_folder()
    assert sys.path == rest
    monkeypatch.setenv("PYTHONPATH", f"{here}:/somewhere")
    sys.path.insert(0, str(here))
    forget_current_folder()
    assert sys.path == [str(here), *rest]


def test_a_folder_that_has_been_deleted_is_no_error(here):
    gone = here / "gone"
    gone.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(gone)
        gone.rmdir()
        forget_current_folder()
        assert import_own("json").dumps({}) == "{}"
