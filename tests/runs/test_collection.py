"""Many runs as one table."""

import json
import math

import pytest

from supermask.errors import BadFileError, UsageError
from supermask.runs.collection import collect, summarise


def run(path, seed, accuracy, complete=True, **config):
    """A run folder as one that was finished leaves it, without its ticket."""
    path.mkdir(parents=True)
    rows = [{"seed": seed, "val_accuracy": accuracy, "density": 0.25, "ticket": "t", **config.pop("row", {})}]
    (path / "config.json").write_text(json.dumps({"arch": "conv2", "options": {}, "seed": seed, **config}))
    (path / "result.json").write_text(json.dumps({"complete": complete, "results": rows}))


def test_a_row_for_each_combination_of_what_differs(tmp_path):
    for seed, shift in enumerate((0.0, 0.1, 0.2)):
        for density in (0.1, 0.5):
            run(tmp_path / f"{density}-{seed}", seed, 0.5 + shift + density, density=density)
    found = collect([tmp_path])
    metric, rows = summarise(found)
    assert (found.axes, metric) == (("density",), "val_accuracy")
    assert [(row["density"], row["n"]) for row in rows] == [(0.1, 3), (0.5, 3)]
    assert rows[0]["mean"] == pytest.approx(0.7)
    assert rows[0]["std"] == pytest.approx(0.1)
    assert rows[0]["ci95"] == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)


def test_options_are_axes_of_their_own_and_places_are_none(tmp_path):
    run(tmp_path / "a", 0, 0.5, options={"anneal": 0.1}, weights="/here/w", weights_sha256="0", devices=1)
    run(tmp_path / "b", 0, 0.7, options={"anneal": 0.2}, weights="/there/w", weights_sha256="0", devices=2)
    found = collect([tmp_path / "a", tmp_path / "b"])
    assert found.axes == ("-o anneal",)
    assert [row["ci95"] for row in summarise(found)[1]] == [None, None]


def test_rounds_and_branches_of_a_run_are_rows_of_their_own(tmp_path):
    for seed in range(2):
        run(tmp_path / str(seed), seed, 0.5 + seed / 10, row={"round": 1, "branch": "ticket", "test_accuracy": 0.9})
    metric, [row] = summarise(collect([tmp_path]))
    assert (metric, row["round"], row["branch"], row["n"], row["mean"]) == ("test_accuracy", 1, "ticket", 2, 0.9)
    assert summarise(collect([tmp_path]), "val_accuracy")[1][0]["mean"] == pytest.approx(0.55)


def test_what_is_not_finished_or_damaged_is_left_out_by_name(tmp_path):
    run(tmp_path / "good", 0, 0.5)
    run(tmp_path / "stopped", 0, 0.5, complete=False)
    run(tmp_path / "damaged", 0, 0.5)
    (tmp_path / "damaged" / "config.json").write_text("{")
    (tmp_path / "no run").mkdir()
    found = collect([tmp_path])
    assert len(found.rows) == 1
    assert {str(tmp_path / name) for name in ("stopped", "damaged")} == set(found.left_out)


def test_nothing_to_summarise(tmp_path):
    with pytest.raises(BadFileError, match="no finished run"):
        collect([tmp_path])
    with pytest.raises(UsageError, match="not a folder"):
        collect([tmp_path / "missing"])
    run(tmp_path / "good", 0, 0.5)
    with pytest.raises(UsageError, match="unknown metric 'ticket'"):
        summarise(collect([tmp_path]), "ticket")
