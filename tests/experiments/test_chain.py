"""Runs of several trainings: one that is killed at any moment goes on to the same bytes."""

import json

import pytest

import supermask
from supermask.experiments.options import CheckpointPolicy, RunOptions

pytestmark = pytest.mark.usefixtures("compiled_quickly")
SMALL = {"arch": "lenet300", "width": 0.1, "epochs": 2, "batch_size": 64, "devices": 1}


class Killed(BaseException):
    """Ends the run as a crash does, at a step."""


class Kill(supermask.Callback):
    def __init__(self, after):
        self.left = after

    def on_steps(self, seeds, done, total, loss):
        self.left -= 1
        if self.left < 0:
            raise Killed


def files(folder):
    found = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    rows = json.loads((folder / "result.json").read_text())["results"]
    return found, [{k: v for k, v in row.items() if "second" not in k and k not in ("run", "weights")} for row in rows]


@pytest.mark.parametrize(
    ("experiment", "config", "kills"),
    [
        (
            supermask.lottery,
            supermask.LotteryConfig(**SMALL, seeds=2, rewind_step=3, control="noise,redraw", transfer="mask", rounds=3),
            (2, 12, 9),
        ),
        pytest.param(
            supermask.forget,
            supermask.ForgetConfig(
                **SMALL, generations=3, op="kels", long=True, probe=True, probe_every=15, label_noise=0.2
            ),
            (1, 4, 3),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["lottery", "forget"],
)
def test_a_run_that_is_killed_at_any_moment_goes_on_to_the_same_bytes(tmp_path, experiment, config, kills):
    experiment(config, run=tmp_path / "whole")
    for after in kills:
        options = RunOptions(path=tmp_path / "run", checkpoints=CheckpointPolicy(0), callbacks=(Kill(after),))
        with pytest.raises(Killed):
            experiment(config, run=options)
    experiment(config, run=tmp_path / "run")
    assert files(tmp_path / "run") == files(tmp_path / "whole")
