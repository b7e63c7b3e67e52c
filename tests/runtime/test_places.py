"""Where ~ leads, and what becomes of a user who has no home folder."""

import os
import pwd
from pathlib import Path

import pytest

from supermask.data.splits import default_data_dir
from supermask.datasets.mnist import load as mnist
from supermask.errors import UsageError
from supermask.experiments.options import RunOptions
from supermask.runtime import devices
from supermask.runtime.places import cache_folder, expand


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """As in a container that runs under a number that no user has."""

    def nobody(_):
        raise KeyError("no such user")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "XDG_CACHE_HOME", "SUPERMASK_DATA_DIR", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert expand("~") == Path("/home/ada")
    assert expand("~/a/~") == Path("/home/ada/a/~")
    assert expand("a/~/b") == Path("a/~/b")
    assert expand(Path("~")) == Path("~")
    me = pwd.getpwuid(0)
    assert expand(f"~{me.pw_name}/x") == Path(me.pw_dir, "x")
    assert RunOptions(path="~/run", root="~/runs", data_dir="~/data") == RunOptions(
        Path("/home/ada/run"), Path("/home/ada/runs"), Path("/home/ada/data")
    )


def test_environment_variables_have_a_tilde_too(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("SUPERMASK_DATA_DIR", "~/data")
    assert default_data_dir() == Path("/home/ada/data")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "~/compiled")
    devices.choose_device("auto")
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/home/ada/compiled"


def test_a_file_whose_name_begins_with_a_tilde_is_that_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("~backup.npz").touch()
    assert expand("~backup.npz") == Path("~backup.npz")
    with pytest.raises(UsageError, match="there is no user ghost-42"):
        expand("~ghost-42/x")


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_no_home_folder_is_one_line_and_no_folder(homeless, monkeypatch, home):
    if home is not None:
        monkeypatch.setenv("HOME", home)
    with pytest.raises(UsageError, match="you have no home folder"):
        expand("~/x")
    assert cache_folder() is None
    devices.choose_device("auto")
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    with pytest.raises(UsageError, match=r"you have no home folder to keep mnist in .* --data-dir"):
        mnist(default_data_dir())
    assert list(homeless.iterdir()) == []


def test_a_relative_cache_folder_is_ignored(homeless, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert cache_folder() is None
    monkeypatch.setenv("HOME", "/home/ada")
    assert cache_folder() in (None, Path("/home/ada/.cache/supermask"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(homeless))
    assert cache_folder() == homeless / "supermask"
