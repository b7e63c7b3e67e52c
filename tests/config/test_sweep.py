"""Axes, cells and files of a sweep."""

import pytest

from supermask.config.sweep import Sweep, merged, values_of
from supermask.errors import BadFileError, UsageError


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("arch", "conv2,conv4", ("conv2", "conv4")),
        ("density", "0.1:0.9:0.2", ("0.1", "0.3", "0.5", "0.7", "0.9")),
        ("density", "0.9:0.1:-0.4,1", ("0.9", "0.5", "0.1", "1")),
        ("density", "0.1:0.35:0.1", ("0.1", "0.2", "0.3")),
        ("seed", "0-2,7", ("0", "1", "2", "7")),
        ("method", "edge-popup", ("edge-popup",)),
        ("learning-rate", "1e-3, 1e-2", ("1e-3", "1e-2")),
        ("dataset", "npz:a:b:c", ("npz:a:b:c",)),
        ("epochs", "10:30:10", ("10", "20", "30")),
    ],
)
def test_values(name, text, expected):
    assert values_of(name, text) == expected


def test_the_last_axis_changes_fastest_and_each_cell_is_one_call():
    sweep = merged(None, None, {"density": "0.1,0.5", "lr": "1", "-o anneal": "2", "seeds": "0-1"}, ["--epochs", "3"])
    cells = list(sweep.cells())
    assert len(sweep) == len(cells) == 4
    assert [cell.name for cell in cells[:2]] == [
        "density=0.1,learning-rate=1,o.anneal=2,seed=0",
        "density=0.1,learning-rate=1,o.anneal=2,seed=1",
    ]
    words = ["--density=0.5", "--learning-rate=1", "-o", "anneal=2", "--seed=1", "--epochs", "3"]
    assert sweep.arguments(cells[3].values) == ["search", *words]


def test_names_of_folders_are_different_and_fit():
    paths = ["npz:a/b.npz", "npz:a_b.npz", "folder:" + "x" * 400, "folder:" + "x" * 401]
    names = [cell.name for cell in Sweep("train", {"dataset": tuple(paths)}).cells()]
    assert len(set(names)) == 4
    assert all("/" not in name and len(name) < 200 for name in names)


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"density": "0.5,0.5"}, "--density has the value 0.5 twice"),
        ({"density": "0.9:0.1:0.2"}, "--density 0.9:0.1:0.2 has no value"),
        ({"density": ","}, "--density has no value"),
        ({"seed": "0:2000000:1"}, "there can be 1,000,000"),
        ({"seed": "0-999", "density": "0.001:1:0.0005"}, "there can be 1,000,000"),
    ],
)
def test_axes_that_cannot_be_meant(axes, said):
    with pytest.raises(UsageError, match=said.replace(".", r"\.")):
        merged(None, None, axes, ())


def test_a_file_gives_axes_and_options_which_typed_ones_override(tmp_path):
    file = tmp_path / "grid.toml"
    file.write_text(
        'command = "lottery"\n[axes]\ndensity = "0.1:0.3:0.1"\nseeds = "0-1"\nmethod = ["a", "b"]\n'
        '[options]\nepochs = 3\none_shot = true\nforce = false\n"-a" = ["norm=batch", "x=1"]\n'
    )
    sweep = Sweep.read(file)
    assert sweep.axes == {"density": ("0.1", "0.2", "0.3"), "seed": ("0", "1"), "method": ("a", "b")}
    assert sweep.words == ("--epochs=3", "--one-shot", "-a", "norm=batch", "-a", "x=1")
    other = merged(sweep, None, {"density": "0.7"}, ["--quiet"])
    assert (other.command, other.axes["density"], other.words[-1]) == ("lottery", ("0.7",), "--quiet")
    assert Sweep.from_dict(sweep.to_dict(), file) == sweep


@pytest.mark.parametrize(
    "text",
    ["[axes", "axes = 3", "[axes]\nseed = [true]\n", 'commmand = "search"', 'command = "eval"', "[axes]\nseed = []\n"],
)
def test_other_files_are_refused_by_name(tmp_path, text):
    file = tmp_path / "grid.toml"
    file.write_text(text)
    with pytest.raises(BadFileError, match=r"grid\.toml"):
        Sweep.read(file)
