"""Runs of earlier versions keep the settings that they began with, and their names."""

import json

import pytest

from supermask import SearchConfig, registry
from supermask.cli import main
from supermask.config.earlier import added_options, completed
from supermask.config.files import OPTIONAL
from supermask.errors import RunFolderError
from supermask.experiments.run import run_path
from supermask.resolve import resolve
from supermask.runs.index import check_owner, default_path

SMALL = {"arch": "lenet300", "width": 0.1, "epochs": 2, "seeds": 1}
CHANGED = {
    "fedpm": {"backward": "identity", "rounds": "fresh"},
    "slot-machines": {"select": "greedy", "scores": "text"},
}


def written_before(method):
    """The values of a config as they were before the method had these options."""
    values = resolve(SearchConfig(method=method, **SMALL)).to_dict()
    return values | {"options": {k: v for k, v in values["options"].items() if k not in added_options(method)}}


@pytest.mark.parametrize("method", registry.names("methods"))
def test_a_run_of_an_earlier_version_is_owned_by_what_it_meant(tmp_path, method):
    (tmp_path / "config.json").write_text(json.dumps(written_before(method)))
    meant = resolve(SearchConfig(method=method, options=added_options(method), **SMALL))
    check_owner(tmp_path, meant)
    assert set(added_options(method)) <= meant.options.keys()
    now = resolve(SearchConfig(method=method, **SMALL))
    assert (method in CHANGED) == (now != meant)
    if method in CHANGED:
        assert added_options(method) == CHANGED[method]
        with pytest.raises(RunFolderError, match="belongs to another config"):
            check_owner(tmp_path, now)


def test_a_class_adds_to_what_its_base_classes_have_added():
    assert added_options("edge-popup") == {"freeze_pruned": 0.0, "freeze_kept": 0.0, "min_per_unit": 0}
    assert added_options("signed") == {"control": "none", "tau": 0.0, "decay_schedule": "staircase"}


def test_a_changed_default_has_another_name_and_the_earlier_one_its_own(tmp_path):
    for method, earlier in CHANGED.items():
        old = resolve(SearchConfig(method=method, options=earlier, **SMALL))
        then = {k: v for k, v in old.options.items() if k not in earlier}
        defaults = resolve(SearchConfig(arch="lenet300", method=method)).replace(options=then)
        assert run_path(tmp_path, old) == default_path(tmp_path, old.replace(options=then), defaults)
        assert run_path(tmp_path, resolve(SearchConfig(method=method, **SMALL))) != run_path(tmp_path, old)


def test_what_a_person_wrote_has_the_defaults_of_today():
    for values in ({"method": "fedpm"}, {"method": "fedpm", "options": {"clients": 2, "local_epochs": 1}}):
        assert completed(values) == values
    whole = dict.fromkeys(OPTIONAL) | written_before("fedpm")
    assert completed(whole)["options"] == whole["options"] | CHANGED["fedpm"]
    assert completed(whole | {"options": {"clients": 2}}) == whole | {"options": {"clients": 2}}
    for values in ({}, {"method": "pkg.own:Method", "options": {}}, {"method": 3}, {"method": "gone", "options": {}}):
        assert completed(values) == values


@pytest.mark.slow
def test_resume_keeps_the_settings_of_an_earlier_version(tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--method", "slot-machines", "-o", "values=2", "--arch", "lenet300", "--width", "0.1", "--epochs", "1"]
    earlier = [word for pair in CHANGED["slot-machines"].items() for word in ("-o", "=".join(pair))]

    def search(*more):
        with pytest.raises(SystemExit) as stop:
            main(["search", "--json", *map(str, more)])
        out = capsys.readouterr().out
        return stop.value.code or 0, json.loads(out) if out else None

    code, found = search(*words, *earlier, "--out", run)
    assert code == 0
    config = json.loads((run / "config.json").read_text())
    for key in CHANGED["slot-machines"]:
        del config["options"][key]
    (run / "config.json").write_text(json.dumps(config))
    assert search("--resume", run) == (0, found)
    assert search("--config", run / "config.json") == (0, found)
    assert search(*words, *earlier, "--out", run) == (0, found)
    assert search(*words, "--out", run)[0] == 4


def test_what_a_run_does_not_write_is_not_what_a_recipe_says():
    values = written_before("signed")
    assert "order" not in values
    assert completed(values)["order"] is None
    assert "order" not in completed({"method": "signed", "epochs": 3})
