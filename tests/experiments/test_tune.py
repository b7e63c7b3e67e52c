"""Successive halving: which candidates train for how long, what wins, and the recipe of it."""

import json
from pathlib import Path

import pytest

import supermask
from supermask.cli import main
from supermask.config import SearchConfig, TrainConfig
from supermask.config.sweep import Sweep, merged
from supermask.errors import BadFileError, SupermaskError, UsageError
from supermask.experiments.tune import Halving, candidates_of, tune
from supermask.recipes import _own, config_of
from supermask.resolve import resolve

ROOT = Path(supermask.__file__).parent.parent


@pytest.mark.parametrize(
    ("halving", "candidates", "rounds"),
    [
        (Halving(27), 9, [(9, 3), (3, 9), (1, 27)]),
        (Halving(27), 27, [(27, 1), (9, 3), (3, 9), (1, 27)]),
        (Halving(27), 100, [(100, 1), (34, 3), (12, 9), (4, 27)]),  # the epochs allow no fifth round
        (Halving(27, first=5), 27, [(27, 9), (9, 27)]),
        (Halving(100, factor=2), 5, [(5, 12), (3, 25), (2, 50), (1, 100)]),
        (Halving(10), 2, [(2, 3), (1, 10)]),
        (Halving(1), 4, [(4, 1)]),
    ],
)
def test_rounds(halving, candidates, rounds):
    assert halving.rounds(candidates) == rounds


def test_a_first_round_longer_than_the_last_is_refused():
    with pytest.raises(UsageError, match="5 epochs, more than the last one, 3"):
        Halving(3, first=5)


class Trainings:
    """Stands for the trainings of cells: writes a result that an accuracy as a function of values and epochs gives."""

    def __init__(self, accuracy, fails=lambda values: False):
        self.accuracy, self.fails, self.called = accuracy, fails, []

    def __call__(self, sweep, folder, cells):
        epochs, failures = int(sweep.words[-1].removeprefix("--epochs=")), {}
        for cell in cells:
            if self.fails(cell.values):
                failures[cell.name] = {"message": "the reason"}
            elif folder.results(cell) is None:
                self.called.append((epochs, cell.name))
                folder.run(cell).mkdir()
                row = {"seed": int(cell.values["seed"]), "val_accuracy": self.accuracy(cell.values, epochs)}
                (folder.run(cell) / "result.json").write_text(json.dumps({"complete": True, "results": [row]}))
        return failures


SWEEP = merged(None, None, {"lr": "1,2,3,4,5,6,7,8,9", "seeds": "0-1"}, ())


def test_the_best_mean_over_seeds_wins_and_nothing_is_trained_twice(tmp_path):
    def accuracy(values, epochs):
        """5 is best for long trainings, and by its mean; 9 has the best single seed."""
        rate, seed = float(values["learning-rate"]), int(values["seed"])
        return -abs(rate - 5) / 10 + epochs / 100 + (3 * (2 * seed - 1) if rate == 9 else 0)

    trainings, said = Trainings(accuracy), []
    for _ in range(2):
        rounds = list(tune(SWEEP, tmp_path, candidates_of(SWEEP), Halving(9), trainings, said.append))
    assert [(epochs, len(ranked)) for epochs, ranked in rounds] == [(1, 9), (3, 3), (9, 1)]
    assert [one.candidate.values["learning-rate"] for one in rounds[1][1]] == ["5", "4", "6"]
    [best] = rounds[-1][1]
    assert best.candidate.values == {"learning-rate": "5"}
    assert best.accuracy == pytest.approx(0.09)
    assert best.run == tmp_path / "epochs-9" / "learning-rate=5,seed=0"
    assert len(trainings.called) == len(set(trainings.called)) == 2 * (9 + 3 + 1)
    assert said[0] == "round 1/3: 9 candidates, 1 epochs"


def test_failed_candidates_are_left_out_and_said(tmp_path):
    trainings, said = Trainings(lambda values, _: float(values["learning-rate"])), []
    trainings.fails = lambda values: values["learning-rate"] == "9" and values["seed"] == "1"
    rounds = list(tune(SWEEP, tmp_path, candidates_of(SWEEP), Halving(9), trainings, said.append))
    assert rounds[-1][1][0].candidate.values == {"learning-rate": "8"}
    assert "left out: learning-rate=9,seed=1: the reason" in said
    trainings.fails = lambda values: True
    with pytest.raises(SupermaskError, match="all candidates failed"):
        list(tune(SWEEP, tmp_path / "other", candidates_of(SWEEP), Halving(9), trainings, said.append))


def test_trials_are_drawn_once_and_for_all():
    sweep = Sweep("search", {"density": tuple(f"0.{i}" for i in range(1, 10)), "seed": ("0", "1")})
    every, some = candidates_of(sweep), candidates_of(sweep, 4)
    assert len(every) == 9
    assert len(some) == 4
    assert some == candidates_of(sweep, 4)
    assert all(candidate in every and len(candidate.cells) == 2 for candidate in some)
    assert candidates_of(sweep, 40) == every


@pytest.mark.parametrize(
    ("experiment", "config"),
    [
        ("search", SearchConfig(method="bernoulli", arch="vgg11", arch_options={"norm": "none"}, learning_rate=1e-5)),
        ("train", TrainConfig(arch="lenet300", optimizer="adamw", dataset='npz:a "b"\\c.npz')),
    ],
)
def test_a_recipe_file_has_the_whole_config(tmp_path, experiment, config):
    file = tmp_path / "best.toml"
    config = config if "npz" in config.dataset else resolve(config)
    _own.write(file, experiment, config.replace(seed=7, devices=2).to_dict(), "a comment")
    assert type(config).from_dict(config_of(str(file), type(config))) == config
    other = TrainConfig if experiment == "search" else SearchConfig
    with pytest.raises(UsageError, match=f"recipe of `supermask {experiment}`: use it there"):
        config_of(str(file), other)


@pytest.mark.parametrize(
    "text", [None, "[config", "[config]\narchs = 'conv2'", "arch = 'conv2'", "config = 3", "[config]\nwidth = 'x'"]
)
def test_other_files_are_refused_by_name(tmp_path, text):
    file = tmp_path / "mine.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(BadFileError, match=r"mine\.toml"):
        config_of(str(file), SearchConfig)


@pytest.mark.slow
def test_the_command_tunes_and_writes_a_recipe_that_search_takes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    words = ["tune", "--lr=0.1,1e-9", "--epochs=2", "--factor=2", "--out=tuned", "--json"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--", "--arch=lenet300", "--width=0.1", "--devices=1", "--density=0.3"])
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [(row["epochs"], row["rank"]) for row in rows] == [(1, 1), (1, 2), (2, 1)]
    assert rows[0]["val_accuracy"] >= rows[1]["val_accuracy"]
    with pytest.raises(SystemExit) as ended:
        main(["search", "--recipe=tuned/best.toml", "--seed=5", "--dry-run", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0
    assert str(found["learning_rate"]) == str(float(rows[-1]["learning-rate"]))
    assert (found["arch"], found["width"], found["density"], found["epochs"]) == ("lenet300", 0.1, 0.3, 2)
    assert found["seed"] == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--density=0.5"], "nothing to tune"),
        (["--density=0.5,0.7", "--", "--epochs=3"], "before --"),
        (["--density=0.5,x"], "not a valid float"),
        ([], "there is no axis"),
        (["--density=0.1,0.2", "--first=30"], "more than the last one"),
        (["--density=0.1,0.2", "--validation=0"], "nothing is held out to choose by"),
        (["--density=0.1,0.2", "--", "--validation", "0.0"], "nothing is held out to choose by"),
    ],
)
def test_wrong_calls_are_refused_before_anything_begins(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["tune", *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
