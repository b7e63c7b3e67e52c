"""Recipes: each says what it claims and can be run; `search --recipe` and `reproduce` take them at their word."""

import contextlib
import io
import json
import os
import re
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import problem_of

from supermask import evaluate, registry
from supermask.cli import main
from supermask.config import SearchConfig
from supermask.config.inputs import inputs_of
from supermask.config.network import takes_activation
from supermask.experiments.comparison import CriteriaSweep
from supermask.ticket import Ticket

pytestmark = pytest.mark.usefixtures("compiled_quickly")

NAMES = registry.names("recipes")
OURS = ("random-transformers",)
"""Tables whose rows are more than those of a paper."""
SOURCES = ("paper", "readme", "code", "third party", "figure", "memory (unverified)")
# What a published setting fixes.
FIXED = {
    *("arch", "dataset", "method", "options", "init", "scale_by_density", "activation", "normalise", "augment"),
    *("validation", "epochs", "batch_size", "optimizer", "learning_rate", "momentum", "weight_decay", "schedule"),
}
# What some have besides; `density` has no meaning for some methods.
OTHERS = {
    *("density", "arch_options", "width", "train", "maskable", "warmup", "clip", "clip_each", "order", "image_size"),
    "label_smoothing",
}
OF_LOTTERY = {"rounds", "criterion", "keep", "ranking", "control", "kept", "pruned", "retrain", "rewind_step"}
OF_FORGET = {"op", "layer", "split", "generations", "long"}
ROW_KEYS = (
    *("table", "recipe", "budget", "arch", "dataset", "method", "epochs", "seeds", "test_accuracies", "test_accuracy"),
    *("test_accuracy_std", "density", "density_std", "bits_per_parameter", "bits_per_parameter_std", "run", "tickets"),
    "published",
)
TINY = """
[defaults]
paper = "Nobody 2026"
table = "tiny-table"
gpu_hours = 0.001
config = { arch = "lenet300", dataset = "digits", width = 0.1, epochs = 4 }

[coin]
summary = "LeNet-300-100 on digits, bernoulli."
config.method = "bernoulli"
published = { test_accuracy = 0.9, source = "memory (unverified)" }

[popup]
summary = "LeNet-300-100 on digits, edge-popup."
config.method = "edge-popup"
published = { test_accuracy = 0.9, density = 0.5, source = "figure" }
"""
LONG = (
    TINY.replace("tiny-table", "long-table").replace("[coin]", "[a]").replace("[popup]", "[b]\nconfig.epochs = 1000000")
)


def call(*words):
    """Exit code, stdout and stderr of one call."""
    out, err, path = io.StringIO(), io.StringIO(), list(sys.path)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    sys.path[:] = path
    return stop.value.code or 0, out.getvalue(), err.getvalue()


def answer(*words):
    """The objects on stdout of a call that succeeds."""
    code, out, err = call(*words)
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


def refused(*words, code=2):
    """The one line of a call that fails as it should."""
    found, out, err = call(*words)
    assert (found, out) == (code, ""), err
    [line] = err.splitlines()
    assert line.startswith("supermask: ")
    return line


def dry(*words):
    code, out, err = call("search", *words, "--dry-run")
    assert code == 0, err
    return json.loads(out)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test works in an empty folder, without a user's SUPERMASK_ variables."""
    for name in list(os.environ):
        if name.startswith("SUPERMASK_") and name != "SUPERMASK_OFFLINE":
            monkeypatch.delenv(name)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A registry with four recipes of its own, two of them the cells of `tiny-table`."""
    root = tmp_path / "registry"
    (root / "recipes").mkdir(parents=True)
    for kind in set(registry.KINDS) - {"recipes"}:
        (root / kind).symlink_to(registry.ROOT / kind)
    (root / "recipes" / "tiny.toml").write_text(TINY)
    (root / "recipes" / "long.toml").write_text(LONG)
    monkeypatch.setattr(registry, "ROOT", root)
    registry.names.cache_clear()
    yield root
    registry.names.cache_clear()


# The files


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_says_what_it_claims(name):
    recipe = registry.load("recipes", name)
    assert recipe.name == name
    author = re.match(r"[a-z]+\d{4}", name)[0]  # one paper may have several files
    assert recipe.table.startswith(author) or recipe.table in OURS
    assert author[-4:] in recipe.paper
    assert re.search(r"arXiv|github\.com/", recipe.paper)
    assert recipe.summary == registry.describe("recipes", name).summary
    assert "\n" not in recipe.summary
    assert recipe.notes
    published = recipe.published
    assert published["source"] in SOURCES
    assert set(published) <= {"test_accuracy", "density", "bits_per_parameter", "finding", "source"}
    assert ("test_accuracy" in published) != ("finding" in published)
    assert all(0 < value <= 1 for key, value in published.items() if key not in ("finding", "source"))
    assert bool(recipe.at) == (recipe.experiment in ("lottery", "forget", "criteria"))
    assert 0 < recipe.gpu_hours < 100
    assert recipe.config["epochs"] % recipe.epochs_per_round == 0


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_a_whole_and_valid_config(name):
    from supermask.resolve import make_method, resolve

    recipe = registry.load("recipes", name)
    values = recipe.config
    fixed = FIXED if takes_activation(values["arch"]) else FIXED - {"activation"}
    if inputs_of("datasets", values["dataset"]) == "tokens":
        fixed = fixed - {"normalise"}
    if recipe.experiment != "search":
        fixed = fixed - {"method", "options", "scale_by_density"}
    assert set(values) - OTHERS - OF_LOTTERY - OF_FORGET == fixed
    resolved = resolve(recipe.config_class.from_dict(values))
    if recipe.experiment == "search":
        method = make_method(resolved)
        for key, value in values["options"].items():
            assert (getattr(method, key), type(getattr(method, key))) == (value, type(value))
    assert {key: getattr(resolved, key) for key in fixed - {"options"}} == {
        key: values[key] for key in fixed - {"options"}
    }
    assert resolved.arch_options.items() >= values.get("arch_options", {}).items()
    assert values.get("options", {}).get("local_epochs", 1) == recipe.epochs_per_round
    if recipe.experiment == "lottery":
        assert recipe.at["round"] <= resolved.rounds
        assert recipe.at.get("branch", "ticket") in resolved.branches
    if recipe.experiment == "forget":
        assert recipe.at["generation"] <= resolved.generations
        assert recipe.at.get("branch", resolved.op) in (resolved.op, *(["long"] if resolved.long else []))
    if recipe.experiment == "criteria":
        CriteriaSweep(criteria=[recipe.at["criterion"]], values=[recipe.at["values"]])


def test_a_lottery_goes_back_to_the_published_epoch():
    """Renda et al. 2020 rewind to epoch 12 of 182; 48,000 images are 375 batches."""
    config = registry.load("recipes", "renda2020-resnet20-wr12").config
    assert config["rewind_step"] == 12 * (round(50_000 * (1 - config["validation"])) // config["batch_size"])


def test_figures_that_nobody_verified_are_marked():
    sources = {name: registry.load("recipes", name).published["source"] for name in NAMES}
    assert sources["zhou2019-fc-sc"] == sources["zhou2019-fc-dwr-init"] == "memory (unverified)"
    assert sources["ramanujan2020-conv8"] == "figure"
    assert sources["zhou2019-fc-dwr-sc"] == sources["ramanujan2020-conv4"] == "third party"


def test_the_cells_of_zhou_2019():
    """Names of four parts, an option changed in a table inside a table, the file's order."""
    cells = [name for name in NAMES if name.startswith("zhou2019-")]
    assert [cell.removeprefix("zhou2019-") for cell in cells] == [
        *("conv2-dwr-sc", "conv4-dwr-sc", "conv6-dwr-sc", "fc-dwr-init", "fc-dwr-sc", "fc-init", "fc-sc"),
    ]
    recipes = [registry.load("recipes", cell) for cell in cells]
    assert [recipe.config["options"]["rescale"] for recipe in recipes] == [True] * 5 + [False] * 2
    assert [recipe.config["learning_rate"] for recipe in recipes] == [100.0, 50.0, 20.0] + [100.0] * 4
    assert [recipe.published["test_accuracy"] for recipe in recipes] == [0.66, 0.725, 0.765, 0.978, 0.98, 0.953, 0.964]


@pytest.mark.parametrize(
    ("name", "trained"),
    [
        ("koster2022-resnet20-x2", {"bn1/bias", "bn1/scale"}),
        ("diffenderfer2021-resnet18", set()),
        ("diffenderfer2021-resnet18-bn", None),
    ],
)
def test_the_norms_that_a_recipe_trains(name, trained):
    """The first alone, none, or all; the others have scale 1 and offset 0."""
    values = {**registry.load("recipes", name).config, "dataset": "digits", "width": 0.1}
    parameters = problem_of(SearchConfig.from_dict(values)).parameters
    norms = {key for key, found in parameters.items() if found.layer.endswith("Norm")}
    assert {key for key, found in parameters.items() if found.trained} == (norms if trained is None else trained)
    assert trained == set() or len(norms) > 20


# Files of a user's own


def test_a_table_goes_over_the_defaults_key_by_key(tiny):
    (tiny / "recipes" / "own2026.toml").write_text(
        TINY + '[signed]\nsummary = "Own."\nepochs_per_round = 2\ntable = "own-table"\n'
        'config = { epochs = 6, method = "signed", options = { decay = 0.1 } }\n'
        'published = { source = "paper", test_accuracy = 1 }\nnotes = """\nTwo\nlines.\n"""\n'
    )
    assert registry.names("recipes")[-1] == "tiny-popup"
    assert "own2026-signed" in registry.names("recipes")
    recipe = registry.load("recipes", "own2026-signed")
    assert (recipe.paper, recipe.table, recipe.gpu_hours) == ("Nobody 2026", "own-table", 0.001)
    assert list(recipe.config) == ["arch", "dataset", "width", "epochs", "method", "options"]  # as in SearchConfig
    assert (recipe.config["arch"], recipe.config["epochs"], recipe.config["width"]) == ("lenet300", 6, 0.1)
    assert (recipe.epochs_per_round, recipe.notes) == (2, "Two lines.")
    assert registry.load("recipes", "own2026-coin").config["epochs"] == 4
    assert dry("--recipe", "own2026-signed")["options"].items() >= {"threshold": 0.4, "decay": 0.1}.items()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[coin]", "[coin", ["TOML", "line 8"]),
        ("[defaults]", "defaults = 1\n[more]", ["defaults", "must be a table"]),
        ("[defaults]", "epochs = 1\n[defaults]", ["epochs", "must be a table"]),
        ("gpu_hours = 0.001", "", ["[coin]", "'gpu_hours' is missing"]),
        ("gpu_hours = 0.001", "gpu_hours = true", ["[coin]", "gpu_hours is True", "a number above 0"]),
        ("gpu_hours = 0.001", "gpu_hours = nan", ["[coin]", "gpu_hours is nan"]),
        ("gpu_hours = 0.001", "gpu_hours = 1\nepochs_per_round = 0", ["epochs_per_round is 0", "a whole number"]),
        ("gpu_hours = 0.001", "gpu_hour = 0.001", ["[coin]", "'gpu_hours' is missing"]),
        ("[coin]", "[coin]\nnote = 1", ["[coin]", "unknown key 'note'", "did you mean notes?"]),
        ("[coin]", "[coin]\nname = 'other'", ["[coin]", "unknown key 'name'"]),
        ('"Nobody 2026"', "2026", ["[coin]", "paper is 2026", "text"]),
        ('config.method = "bernoulli"', "config = 3", ["[coin]", "config is 3", "a table"]),
        ('config.method = "bernoulli"', "", ["[coin]", "'config.method' is missing"]),
        ("epochs = 4", "epochs = 0.5", ["[coin]", "epochs is 0.5", "a whole number"]),
        ("width = 0.1", "widht = 0.1", ["[coin]", "unknown config key 'widht'"]),
        ("width = 0.1", "width = 0", ["[coin]", "width is 0"]),
        (
            "{ test_accuracy = 0.9, source",
            "{ accuracy = 0.9, source",
            ["[coin]", "'published.test_accuracy' is missing"],
        ),
        ("0.9, source", "90, acuracy = 1, source", ["[coin]", "unknown key of published 'acuracy'"]),
        ("0.9, source", "'0.9', source", ["[coin]", "published.test_accuracy is '0.9'"]),
        ("memory (unverified)", "memory", ["[coin]", "published.source 'memory'", "memory (unverified)"]),
    ],
)
def test_a_malformed_file_is_one_line_that_names_file_and_key(tiny, old, new, expected):
    path = tiny / "recipes" / "tiny.toml"
    assert old in TINY
    path.write_text(TINY.replace(old, new, 1))
    for words in (("list", "recipes"), ("search", "--recipe", "tiny-coin", "--dry-run"), ("reproduce", "tiny-table")):
        registry.names.cache_clear()
        registry.recipe_tables.cache_clear()
        line = refused(*words, code=3)
        assert [word for word in (str(path), *expected) if word not in line] == []


def test_a_file_that_cannot_be_a_recipe_file_is_named(tiny):
    for name, content, expected in (
        ("with-dash.toml", b"", "cannot contain '-'"),
        ("latin1.toml", b'[fc]\nsummary = "\xe9"\n', "TOML"),
    ):
        path = tiny / "recipes" / name
        path.write_bytes(content)
        registry.names.cache_clear()
        line = refused("search", "--recipe", "tiny-coin", code=3)
        assert str(path) in line
        assert expected in line
        path.unlink()


# list


def test_list_names_all_recipes():
    rows = answer("list", "recipes", "--json")
    assert [row["name"] for row in rows] == list(NAMES)
    assert all(set(row) == {"kind", "name", "summary", "options", "paper"} for row in rows)


def test_list_verbose_says_what_is_published_and_where_from():
    [row] = [row for row in answer("list", "recipes", "-v", "--json") if row["name"] == "koster2022-conv8"]
    assert row["published"] == {"test_accuracy": 0.8091, "density": 0.0117, "source": "readme"}
    assert (row["table"], row["options"]["epochs"]) == ("koster2022-readme", 100)
    assert row["gpu_hours"] > 0
    out = call("list", "recipes", "-v")[1]
    for text in (
        "test accuracy 0.964; source: memory (unverified)",
        "source: figure",
        "(our estimate)",
        "epochs: 2000",
    ):
        assert text in out
    assert "table: isik2023-cifar10" in out
    assert "bits per parameter 0.606" in out


@pytest.mark.parametrize("name", ["zhou2019-fc-sc", "isik2023-conv6", "koster2022-conv2"])
def test_the_options_that_are_listed_are_the_recipe(name):
    lines = call("list", "recipes", "-v")[1].splitlines()
    after = lines[lines.index(f"  {name}") :]
    options = next(line for line in after if "options: " in line).split("options: ")[1]
    assert dry(*options.split()) == dry("--recipe", name)


# search --recipe


def test_precedence(monkeypatch):
    """Option, environment, config file, recipe, default: each hides the ones after it."""
    recipe = ("--recipe", "zhou2019-fc-dwr-sc")
    Path("c.json").write_text('{"epochs": 5, "seed": 3}')
    assert dry(*recipe)["epochs"] == 2000
    assert dry(*recipe)["seed"] == dry()["seed"] == 0
    found = dry(*recipe, "--config", "c.json")
    assert (found["epochs"], found["seed"], found["learning_rate"], found["method"]) == (5, 3, 100.0, "bernoulli")
    monkeypatch.setenv("SUPERMASK_EPOCHS", "7")
    assert dry(*recipe, "--config", "c.json")["epochs"] == 7
    assert dry(*recipe, "--config", "c.json", "--epochs", "9")["epochs"] == 9
    monkeypatch.delenv("SUPERMASK_EPOCHS")
    monkeypatch.setenv("SUPERMASK_RECIPE", recipe[1])
    assert dry()["batch_size"] == 250
    assert dry("--density", "0.5") == dry()
    assert dry("--sparsity", "0.9")["density"] == 0.1


def test_options_of_the_method_are_merged():
    recipe = ("--recipe", "koster2022-fc")
    Path("c.json").write_text('{"options": {"decay": 0.001}}')
    assert dry(*recipe)["options"].items() >= {"threshold": 0.4, "decay": 5e-4}.items()
    assert dry(*recipe, "--config", "c.json")["options"].items() >= {"threshold": 0.4, "decay": 1e-3}.items()
    assert (
        dry(*recipe, "--config", "c.json", "-o", "decay=0.002")["options"].items()
        >= {"threshold": 0.4, "decay": 2e-3}.items()
    )


def test_another_arch_is_not_asked_for_parts_that_the_recipes_has():
    recipe = ("-q", "--recipe", "diffenderfer2021-resnet18-bn")
    found = dry(*recipe)
    assert (found["train"], found["arch_options"]) == ("norm", {"norm": "affine"})
    other = dry(*recipe, "--arch", "conv2", "--dataset", "digits")
    assert (other["train"], other["arch_options"], other["options"]) == (None, {}, found["options"])
    assert dry(*recipe, "--arch", "vgg11", "-a", "norm=affine", "--train", "norm")["train"] == "norm"


@pytest.mark.parametrize("where", ["option", "environment", "file"])
def test_another_method_brings_its_own_training(monkeypatch, where):
    words = ["--recipe", "zhou2019-conv4-dwr-sc", "--dataset", "digits"]
    if where == "option":
        words += ["--method", "edge-popup"]
    elif where == "environment":
        monkeypatch.setenv("SUPERMASK_METHOD", "edge-popup")
    else:
        Path("c.json").write_text('{"method": "edge-popup"}')
        words += ["--config", "c.json"]
    found, plain = dry(*words), dry("--method", "edge-popup")
    for key in ("options", "init", "normalise", "learning_rate", "weight_decay", "schedule", "batch_size"):
        assert found[key] == plain[key], key
    assert found["epochs"] == 100


def test_a_file_of_the_same_method_goes_before_the_recipe():
    values = dry("--method", "signed", "--epochs", "3")
    Path("c.json").write_text(json.dumps(values))
    assert dry("--recipe", "koster2022-fc", "--config", "c.json") == values


@pytest.mark.parametrize("name", ["ramanujan2020-conv", "ramanujan2020-conv4:x", "mypkg.mine:RECIPE"])
def test_wrong_recipe(here, name):
    line = refused("search", "--recipe", name)
    assert all(valid in line for valid in NAMES)
    assert "did you mean ramanujan2020-conv" in line or "mypkg" in name
    assert list(here.iterdir()) == []


# reproduce


def test_reproduce(tiny, here):
    code, out, err = call("reproduce", "tiny-table", "--budget", "0.5", "--seeds", "2", "--json")
    assert code == 0, err
    coin, popup = (json.loads(line) for line in out.splitlines())
    assert tuple(coin) == tuple(popup) == ROW_KEYS
    assert (coin["recipe"], popup["recipe"]) == ("tiny-coin", "tiny-popup")
    assert popup["published"] == {
        **{"paper": "Nobody 2026", "epochs": 4, "test_accuracy": 0.9, "density": 0.5, "source": "figure"}
    }
    for row in (coin, popup):
        assert (row["table"], row["epochs"], row["budget"], row["seeds"]) == ("tiny-table", 2, 0.5, [0, 1])
        tickets = [Ticket.load(path) for path in row["tickets"]]
        assert [ticket.config.epochs for ticket in tickets] == [2, 2]
        assert row["test_accuracies"] == [evaluate(ticket).accuracy for ticket in tickets]
        assert row["test_accuracy"] == pytest.approx(sum(row["test_accuracies"]) / 2)
        assert row["test_accuracy_std"] == pytest.approx(statistics.stdev(row["test_accuracies"]))
        assert row["density"] == pytest.approx(sum(ticket.density for ticket in tickets) / 2)
    assert "tiny-coin: cell 1 of 2" in err
    assert "epoch 2/2" in err
    search = ("search", "--recipe", "tiny-popup", "--epochs", "2", "--seeds", "2", "--json", "-q")
    assert [row["ticket"] for row in answer(*search)] == popup["tickets"]
    words = ("reproduce", "tiny-table", "--budget", "0.5", "--seeds", "2", "--json")
    assert answer(*words, "--only", "popup") == [popup]
    assert answer(*words, "--only", "popup", "--only", "tiny-c") == [coin, popup]
    assert len(list(Path("runs").iterdir())) == 2


LOTTERY = """
[defaults]
paper = "Nobody 2026"
table = "tiny-lottery"
gpu_hours = 0.001
experiment = "lottery"

[defaults.config]
arch = "lenet300"
dataset = "digits"
width = 0.1
epochs = 4
rounds = 2
control = "redraw"
rewind_step = 8

[dense]
summary = "LeNet-300-100 on digits, dense."
at = { round = 0 }
published = { test_accuracy = 0.9, source = "memory (unverified)" }

[redrawn]
summary = "LeNet-300-100 on digits, redrawn."
at = { round = 2, branch = "redraw" }
published = { finding = "worse than dense", source = "figure" }
"""
MASKS = """
[signs]
paper = "Nobody 2026"
table = "tiny-masks"
gpu_hours = 0.001
experiment = "criteria"
config = { arch = "lenet300", dataset = "digits", width = 0.1, epochs = 4 }
summary = "LeNet-300-100 on digits, masked."
at = { criterion = "large-final-same-sign", values = "initial" }
published = { test_accuracy = 0.8, source = "figure" }
"""


def test_reproduce_a_lottery(tiny, here):
    (tiny / "recipes" / "long.toml").write_text(LOTTERY)
    registry.names.cache_clear()
    words = ("reproduce", "tiny-lottery", "--budget", "0.5", "--seeds", "2")
    dense, redrawn = answer(*words, "--json")
    assert (dense["epochs"], dense["round"], redrawn["branch"]) == (2, 0, "redraw")
    assert dense["run"] == redrawn["run"]
    assert json.loads((Path(dense["run"]) / "config.json").read_text())["rewind_step"] == 4
    assert len(redrawn["test_accuracies"]) == len(redrawn["weights"]) == 2
    code, out, _ = call(*words)
    assert code == 0
    assert "worse than dense" in out


FORGET = """
[defaults]
paper = "Nobody 2026"
table = "tiny-forget"
gpu_hours = 0.001
experiment = "forget"

[defaults.config]
arch = "lenet300"
dataset = "digits"
width = 0.1
epochs = 2
generations = 2
long = true

[later]
summary = "LeNet-300-100 on digits, the second generation."
at = { generation = 2 }
published = { test_accuracy = 0.9, source = "figure" }

[long]
summary = "LeNet-300-100 on digits, one long training."
at = { generation = 2, branch = "long" }
published = { test_accuracy = 0.9, source = "figure" }
"""


def test_reproduce_forgetting(tiny, here):
    (tiny / "recipes" / "later.toml").write_text(FORGET)
    registry.names.cache_clear()
    words = ("reproduce", "tiny-forget", "--budget", "0.5", "--seeds", "1")
    later, long = answer(*words, "--json")
    assert (later["branch"], later["op"], later["epochs"], long["branch"]) == ("llf", "llf", 1, "long")
    assert later["run"] == long["run"]
    rows = answer("forget", "--recipe", "later-later", "--epochs", "1", "--json", "-q")
    assert [row["run"] for row in rows] == [later["run"]] * 3
    assert later["test_accuracies"] + long["test_accuracies"] == [row["test_accuracy"] for row in rows[1:]]


def test_reproduce_masks_after_a_training(tiny, here):
    (tiny / "recipes" / "long.toml").write_text(MASKS)
    registry.names.cache_clear()
    [row] = answer("reproduce", "tiny-masks", "--budget", "0.25", "--seeds", "1", "--json")
    assert (row["criterion"], row["epochs"]) == ("large-final-same-sign", 1)
    assert 0 <= row["test_accuracy"] <= 1


SEQUENCES = """
[defaults]
paper = "Nobody 2026"
table = "tiny-sequences"
gpu_hours = 0.001
config = { arch = "transformer", dataset = "modadd:7", width = 0.1, epochs = 4, arch_options = { layers = 1 } }
published = { finding = "unknown", source = "figure" }

[masked]
summary = "A transformer on modular addition, masked."
config.method = "edge-popup"
config.maskable = "embeddings"

[trained]
summary = "A transformer on modular addition, trained."
experiment = "train"
"""


@pytest.mark.slow  # its parts are tested with searches, and its floors with sequences
def test_reproduce_a_training_beside_a_search_with_the_floors_of_the_test(tiny, here):
    (tiny / "recipes" / "long.toml").write_text(SEQUENCES)
    registry.names.cache_clear()
    words = ("reproduce", "tiny-sequences", "--budget", "0.25", "--seeds", "1")
    masked, trained = answer(*words, "--json")
    assert [len(masked["tickets"]), len(trained["weights"]), trained["density"]] == [1, 1, 1.0]
    assert "method" not in trained
    [floor] = answer("eval", masked["tickets"][0], "--json")
    assert masked["floor"] == trained["floor"] == floor["floor"]
    code, out, _ = call(*words)
    assert code == 0
    assert f"{max(floor['floor'].values()):.4f}" in out
    assert "unknown" in out


def test_a_recipe_of_another_command_is_refused():
    assert "use it there" in refused("search", "--recipe", "renda2020-resnet20-wr12")
    assert "use it there" in refused("lottery", "--recipe", "zhou2019-fc-sc")


@pytest.mark.slow
def test_reproduce_for_humans_continues_where_it_was_stopped(tiny, here, monkeypatch):
    """The second call searches and evaluates nothing; the table says what is read off a figure or remembered."""
    words = ("reproduce", "tiny-table", "--budget", "0.1", "--seeds", "1")
    answer("search", "--recipe", "tiny-coin", "--epochs", "1", "--json", "-q")
    code, out, err = call(*words)
    assert code == 0, err
    assert "is finished" in err.splitlines()[1]
    assert err.count("epoch 1/1") == 1
    title, head, coin, popup = out.splitlines()
    assert all(word in title for word in ("tiny-table", "Nobody 2026", "budget 0.1"))
    assert [head.split().count(word) for word in ("epochs", "published", "density", "source")] == [1, 3, 1, 1]
    assert [line.split()[:3] for line in (coin, popup)] == [["tiny-coin", "1", "4"], ["tiny-popup", "1", "4"]]
    assert coin.endswith("memory (unverified)")
    assert popup.endswith("figure")
    assert "+-" not in out

    def never(*args, **kwargs):
        raise AssertionError("a finished cell is answered from its run folder")

    monkeypatch.setattr("supermask.experiments.run._run_in", never)
    monkeypatch.setattr("supermask.experiments.evaluate.evaluate", never)
    code, again, err = call(*words, "-q")
    assert (code, again) == (0, out)
    assert all(line.startswith("warning: seed 0: ") for line in err.splitlines())  # one epoch is hardly above chance
    rows = answer(*words, "--json", "-q")
    assert [row["test_accuracy_std"] for row in rows] == [None, None]


@pytest.mark.slow
def test_a_kept_test_accuracy_is_of_that_ticket(tiny, here):
    words = ("reproduce", "tiny-table", "--budget", "0.1", "--seeds", "1", "--json", "-q")
    before = answer(*words)
    kept = Path(before[0]["run"]) / ".ticket-s0-test.json"
    for content in (b"{", b"[]", b'{"ticket": "of another", "accuracy": 0.123}'):
        kept.write_bytes(content)
        assert answer(*words) == before
    assert json.loads(kept.read_bytes())["accuracy"] == before[0]["test_accuracy"]
    assert answer(*words, "--force") == before


@pytest.mark.slow
def test_more_seeds_show_their_spread(tiny):
    code, out, err = call("reproduce", "tiny-table", "--budget", "0.1", "--seeds", "2", "-q")
    assert code == 0
    assert all(line.startswith("warning: seed ") for line in err.splitlines())  # one epoch is hardly above chance
    assert out.count("+-") == 4  # accuracy and density of two cells
    assert "seeds 0, 1" in out


def test_a_budget_is_cut_to_whole_rounds():
    from supermask.cli.reproduce import _epochs

    cell = registry.load("recipes", "isik2023-conv6")
    assert [_epochs(cell, budget) for budget in (1.0, 0.02, 0.011, 1e-9)] == [600, 12, 6, 3]
    assert _epochs(registry.load("recipes", "ramanujan2020-conv4"), 1e-9) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ramanujan2020-cifar"], ["did you mean ramanujan2020-cifar10?", "zhou2019-table1", "koster2022-readme"]),
        (["zhou2019-table1", "--budget", "0"], ["budget", "0"]),
        (["zhou2019-table1", "--budget", "2"], ["budget", "at most 1"]),
        (["zhou2019-table1", "--budget", "nan"], ["budget"]),
        (["zhou2019-table1", "--only", "conv9"], ["conv9", "they are", "zhou2019-fc-dwr-sc"]),
        (["zhou2019-table1", "--seeds", "0"], ["seeds", "from 1 to 1e6"]),
        (["zhou2019-table1", "--precision", "f64"], ["precision", "bf16"]),
        ([], ["TABLE"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_wrong_words(here, words, expected):
    line = refused("reproduce", *words)
    assert [word for word in expected if word not in line] == []
    assert list(here.iterdir()) == []


def test_missing_data_is_one_line_that_names_the_cell(here):
    Path("data").mkdir()
    words = ("reproduce", "ramanujan2020-cifar10", "--data-dir", "data", "--budget", "0.01", "-q")
    line = refused(*words, code=3)
    assert "ramanujan2020-conv2" in line
    assert "cifar" in line
    assert [path.name for path in here.iterdir()] == ["data"]


@pytest.mark.slow
def test_ctrl_c_leaves_what_is_finished(tiny, here):
    code = f"""
from pathlib import Path
from supermask import registry
from supermask.cli import main
registry.ROOT = Path({str(tiny)!r})
main(["reproduce", "long-table", "--seeds", "1", "--json"])
"""
    environment = os.environ | {"PYTHONPATH": str(Path(registry.__file__).parent.parent)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, **pipes)
    try:
        for line in process.stderr:
            if "epoch 1/1000000" in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    [row] = [json.loads(line) for line in out.splitlines()]
    assert row["recipe"] == "long-a"
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last == "supermask: interrupted; 1 of 2 cells are finished, the same call does the rest"
    assert Ticket.load(row["tickets"][0]).config.epochs == 4
    results = [json.loads(path.read_text()) for path in Path("runs").glob("*/result.json")]
    assert sorted(result["complete"] for result in results) == [False, True]


def test_recipes_are_read_without_jax():
    code = """
import sys
from supermask.cli import main
try:
    main(["list", "recipes", "-v"])
except SystemExit as stop:
    assert not stop.code
assert not {"jax", "numpy"} & set(sys.modules)
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (0, "")
