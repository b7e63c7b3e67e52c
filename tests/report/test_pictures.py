"""Pictures: what is in them, the bytes they become, and what is said before any work is lost."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import random_ticket

from supermask.errors import BadFileError, SupermaskError, UsageError
from supermask.experiments.diagnostics import BINS, of_layers
from supermask.report.curves import curves, short, ticks
from supermask.report.figure import check_picture
from supermask.report.images import first_layer, joint_histogram, mask_image, mask_panels

ROWS = [
    {"density": 0.8**k, "seed": seed, "test_accuracy": 0.9 - 0.01 * k * i + 0.001 * seed, "how": how}
    for k in range(25)
    for seed in range(3)
    for i, how in enumerate(("rewound", "random"))
]
AXES = {"x": "density", "y": "test_accuracy", "label": "how", "title": "rounds", "log_x": True}


@pytest.fixture
def figures(monkeypatch):
    """The figures that are written."""
    figure = pytest.importorskip("matplotlib.figure")
    seen, save = [], figure.Figure.savefig
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, *a, **k: (seen.append(self), save(self, *a, **k)))
    return seen


def test_densities_are_marked_as_the_papers_mark_them():
    found = ticks([0.8**k for k in range(25)], log=True)
    assert [short(100 * place) for place in found] == ["100", "41", "17", "6.9", "2.8", "1.2", "0.47"]


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_same_rows_give_the_same_bytes(tmp_path, ending):
    pytest.importorskip("matplotlib")
    one, two = tmp_path / f"one.{ending}", tmp_path / f"two.{ending.upper()}"
    for path in (one, two):
        curves(ROWS, path, **AXES, chance=0.1)
    assert one.read_bytes() == two.read_bytes()
    assert sorted(tmp_path.iterdir()) == [one, two]


def test_a_curve_is_the_mean_over_seeds_and_densities_fall(tmp_path, figures):
    curves(ROWS, tmp_path / "a.png", **AXES, chance=0.1)
    [axes] = figures[0].axes
    line = next(line for line in axes.lines if line.get_label() == "random")
    np.testing.assert_allclose(line.get_xdata(), sorted(0.8**k for k in range(25)))
    np.testing.assert_allclose(line.get_ydata()[::-1], [0.901 - 0.01 * k for k in range(25)])
    assert axes.xaxis_inverted()
    assert axes.get_xlabel() == "weights kept (%)"
    assert "3 seeds" in axes.get_title(loc="left")
    assert len({(line.get_marker(), line.get_linestyle()) for line in axes.lines}) == 3  # also without colour


def test_rows_that_cannot_be_drawn_are_counted(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    bad = [{"density": 0.0, "test_accuracy": 0.1, "how": "random"}, {"density": 0.5, "test_accuracy": float("nan")}]
    curves(ROWS + bad, tmp_path / "a.png", **AXES)
    assert capsys.readouterr().err.startswith("note: 2 of 152 rows are not in the picture")
    curves([], tmp_path / "b.png", **AXES)
    assert (tmp_path / "b.png").read_bytes()


def test_seeds_at_other_densities_are_not_averaged(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [{**row, "density": row["density"] * (1 + 0.01 * row["seed"])} for row in ROWS]
    curves(rows, tmp_path / "a.svg", **AXES)
    curves(ROWS, tmp_path / "b.svg", **AXES)
    assert (tmp_path / "a.svg").read_bytes() != (tmp_path / "b.svg").read_bytes()


def test_a_path_is_refused_before_the_work(tmp_path):
    with pytest.raises(UsageError, match=r"a\.pdf: a picture ends in \.png or \.svg"):
        check_picture(tmp_path / "a.pdf")
    with pytest.raises(UsageError, match="nowhere is no folder"):
        check_picture(tmp_path / "nowhere" / "a.png")
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check_picture(tmp_path / "a.png")


def test_without_matplotlib_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SupermaskError, match=r"pip install 'supermask\[plot\]'"):
        check_picture(tmp_path / "a.png")


def test_a_dense_mask_is_the_weights_that_each_pixel_keeps():
    mask = np.random.default_rng(0).random((2 * 3 * 2, 5)) < 0.5
    one, two = mask_panels(mask, (2, 3, 2))
    for row in range(2):
        for column in range(3):
            assert one[row, column] == mask[(row * 3 + column) * 2].sum()
            assert two[row, column] == mask[(row * 3 + column) * 2 + 1].sum()
    [signed] = mask_panels(-mask.astype(np.int8), (2, 6, 1))
    assert signed.sum() == mask.sum()
    [sampled] = mask_panels(np.full((6, 5), 51, np.uint8), (2, 3, 1))
    np.testing.assert_allclose(sampled, 1.0)  # 5 outputs, each with probability 0.2


def test_a_convolution_is_a_grid_of_its_kernels():
    mask = np.random.default_rng(0).random((3, 3, 2, 5)) < 0.5
    [grid] = mask_panels(mask, (8, 8, 2))
    assert grid.shape == (7, 11)
    np.testing.assert_array_equal(grid[4:7, 4:7], mask[..., 4].sum(2))
    assert np.isnan(grid[3]).all()
    assert np.nansum(grid) == mask.sum()


@pytest.mark.parametrize(
    ("arch", "shape", "name"),
    [
        ("lenet300", (8, 8, 1), "dense1/kernel"),
        ("conv2", (16, 16, 3), "conv1/kernel"),
        ("convnext-tiny", (32, 32, 1), "stem/0/kernel"),  # whose depthwise kernels have one channel as well
    ],
)
def test_the_first_layer_is_that_which_sees_the_image(arch, shape, name):
    ticket, _ = random_ticket(arch, shape, width=0.1)
    found, note = first_layer(ticket.mask, shape, "it")
    assert found == name
    assert ("may see the image as well" in note) == (arch == "convnext-tiny")


def test_what_has_no_such_mask_is_a_bad_file():
    ticket, _ = random_ticket("lenet300", (8, 8, 1), width=0.1)
    with pytest.raises(BadFileError, match="no mask over a layer that sees the image"):
        first_layer(ticket.mask, (9, 9, 1), "it")
    with pytest.raises(BadFileError, match="trained dense"):
        first_layer({}, (8, 8, 1), "it")


def test_images_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    generator = np.random.default_rng(0)
    mask_image(generator.random((3, 3, 3, 8)) < 0.5, (8, 8, 3), tmp_path / "a.png")
    mask_image(generator.random((12, 8)) < 0.5, (2, 2, 3), tmp_path / "b.svg", "dense")
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 2


def test_panels_share_their_curves_and_one_legend(tmp_path, figures):
    rows = [{**row, "on": on} for on in ("these", "those") for row in ROWS if (on, row["how"]) != ("those", "rewound")]
    curves(rows, tmp_path / "a.png", **AXES, panel="on")
    one, two = figures[0].axes
    assert [axes.get_title() for axes in (one, two)] == ["these", "those"]
    assert [line.get_label() for line in two.lines] == ["random"]
    [same] = [line for line in one.lines if line.get_label() == "random"]
    assert same.get_color() == two.lines[0].get_color()  # in both, though it is the only one there
    assert one.get_legend() is None
    assert [text.get_text() for text in two.get_legend().get_texts()] == ["rewound", "random"]


def test_where_weights_began_and_ended_is_the_histogram_of_each_layer(tmp_path, figures):
    generator = np.random.default_rng(0)
    before = {name: generator.normal(size=(9, 9)) for name in "ab"}
    after = {name: array * 2 for name, array in before.items()}
    rows = [{"seed": seed, **row} for seed in (0, 1) for row in of_layers(before, after)]
    joint_histogram(rows, tmp_path / "a.png", "before and after")
    titles = [axes.get_title() for axes in figures[0].axes]
    assert titles == [f"seed {seed}, {name} (81)" for seed in (0, 1) for name in "ab"]
    [mesh] = figures[0].axes[0].collections
    edge = np.abs(after["a"]).max()
    assert mesh.get_coordinates()[-1, -1].tolist() == pytest.approx([edge, edge])
    counts = mesh.get_array()
    assert counts.sum() == 81
    rows_, columns = np.nonzero(counts.filled(0))
    assert (np.abs(rows_ - BINS // 2) >= np.abs(columns - BINS // 2)).all()  # final upward: twice as far from 0
    joint_histogram(rows[:1], tmp_path / "b.png")
    assert figures[1].axes[0].get_title() == "a (81)"


def test_inspect_draws_a_ticket_and_says_what_is_wrong_first(tmp_path):
    pytest.importorskip("matplotlib")
    ticket, _ = random_ticket("lenet300", (8, 8, 1), width=0.1)
    path = replace(ticket, metrics={"val_accuracy": 0.5}).save(tmp_path / "ticket.safetensors")

    def inspect(*words):
        code = f"""
import sys
from supermask.cli import main
try:
    main({["inspect", *map(str, words)]!r})
finally:
    assert not {{"jax", "flax", "matplotlib.pyplot"}} & set(sys.modules)
"""
        return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)

    done = inspect(path, "--plot", tmp_path / "a.png")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    refused = inspect(tmp_path / "nothing", "--plot", tmp_path / "a.gif")
    assert refused.returncode == 2
    assert refused.stderr == f"supermask: cannot draw {tmp_path / 'a.gif'}: a picture ends in .png or .svg\n"
    assert not Path(tmp_path / "a.gif").exists()
