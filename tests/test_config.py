"""SearchConfig and the registry: ranges, names, what a file says of itself."""

import math
import typing
from dataclasses import dataclass, field, fields

import pytest

from supermask import registry
from supermask.config import SearchConfig
from supermask.config.inputs import inputs_of
from supermask.errors import SupermaskError, UsageError
from supermask.resolve import facts_of, make_method, resolve
from supermask.types import Method


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("density", 0),
        ("density", 1.5),
        ("density", -0.1),
        ("density", math.nan),
        ("density", "0.5"),
        ("width", 0),
        ("width", math.inf),
        ("epochs", -1),
        ("epochs", 1.5),
        ("batch_size", 0),
        ("learning_rate", 0),
        ("learning_rate", math.nan),
        ("momentum", 1.0),
        ("weight_decay", -1),
        ("validation", -0.1),
        ("validation", 1),
        ("seed", -1),
        ("seeds", 0),
        ("seeds", True),
        ("arch", 5),
        ("options", "hard=binary"),
        ("scale_by_density", "no"),
    ],
)
def test_values_out_of_range_are_refused_by_name(field, value):
    with pytest.raises(UsageError, match=f"^{field} is .* must be"):
        SearchConfig(**{field: value})


@pytest.mark.parametrize("field", ["optimizer", "schedule", "augment", "select"])
def test_words_are_among_the_choices(field):
    with pytest.raises(UsageError, match=f"^unknown {field} 'sdg': .*valid: "):
        SearchConfig(**{field: "sdg"})


@pytest.mark.parametrize(("field", "value"), [("density", 1), ("density", 1e-6), ("epochs", 0), ("momentum", 0)])
def test_bounds_are_allowed(field, value):
    assert getattr(SearchConfig(**{field: value}), field) == value


def test_the_last_seed_is_in_range_too():
    assert SearchConfig(seed=2**32 - 2, seeds=2).seeds == 2
    with pytest.raises(UsageError, match="4294967296"):
        SearchConfig(seed=2**32 - 1, seeds=2)


def test_dict_round_trip_and_unknown_keys():
    config = SearchConfig(density=0.3, options={"hard": "binary"}, epochs=4)
    assert SearchConfig.from_dict(config.to_dict()) == config
    with pytest.raises(UsageError, match="unknown config key 'prune'"):
        SearchConfig.from_dict({"prune": 1})


def test_digest_leaves_defaults_out():
    base = SearchConfig()
    assert SearchConfig(density=0.5).digest(base) == base.digest(base)
    assert SearchConfig(density=0.4).digest(base) != base.digest(base)
    assert SearchConfig(arch="conv2").digest(SearchConfig(arch="conv2")) != base.digest(base)


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_file_describes_itself_without_being_imported(kind):
    assert registry.names(kind)
    for name in registry.names(kind):
        entry = registry.describe(kind, name)
        assert entry.summary.endswith((".", ":")) or len(entry.summary) > 20
        assert registry.load(kind, name) is not None


def test_described_fields_are_the_real_ones():
    for name in registry.names("methods"):
        real = registry.load("methods", name)()
        for key, value in registry.describe("methods", name).fields.items():
            assert getattr(real, key) == value


@pytest.mark.parametrize("name", registry.names("methods"))
def test_what_is_read_of_a_method_is_what_its_class_says(name):
    """So that a config can be filled, and its run folder named, without JAX."""
    real, facts = registry.load("methods", name), facts_of(name)
    hints = typing.get_type_hints(real)
    own = {item.name: (hints[item.name], item.default) for item in fields(real) if item.name != "density"}
    assert dict(facts.options) == own
    assert [type(default) for _, default in facts.options.values()] == [kind for kind, _ in facts.options.values()]
    assert (facts.recipe, facts.learned, facts.keeps_density) == (real.recipe, real.learned, real.keeps_density)
    assert registry.describe("methods", name).notes.keys() == facts.options.keys()  # each is explained


@dataclass(frozen=True)
class Own(Method):
    """With fields of every kind."""

    steps: tuple = field(default_factory=lambda: (1, 2))
    limit: int | None = None
    rate: typing.Optional[float] = 0.5  # noqa: UP045 - both spellings
    word: str = "A"
    made: int = field(init=False, default=7)
    needed: int = field(kw_only=True)

    def __post_init__(self):
        object.__setattr__(self, "word", self.word.lower())

    def init(self, key, weights, context):
        raise AssertionError("never called")

    def mask(self, scores, weights, *, key, progress):
        raise AssertionError("never called")

    def harden(self, scores, weights):
        raise AssertionError("never called")


def test_options_of_a_method_of_ones_own():
    name = f"{__name__}:Own"
    config = SearchConfig(method=name, options={"needed": "3", "limit": "4"})
    # "A" is "a" as the method has settled it.
    assert resolve(config).options == {"steps": (1, 2), "limit": 4, "rate": 0.5, "word": "a", "needed": 3}
    assert make_method(config) == Own(needed=3, limit=4)
    assert make_method(config.replace(options={"needed": 3, "limit": None, "steps": (5,)})).steps == (5,)
    for options, words in (
        ({}, ("needs the option needed", "-o needed=VALUE")),
        ({"needed": "x"}, ("option needed is 'x'", "a whole number")),
        ({"needed": 1, "rate": "x"}, ("option rate is 'x'", "a number")),
        ({"needed": 1, "made": 1}, ("unknown option", "'made'")),
    ):
        with pytest.raises(UsageError) as caught:
            resolve(config.replace(options=options))
        assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("name", registry.names("datasets"))
def test_what_is_read_of_a_dataset_is_what_its_module_says(name):
    arch = "transformer" if inputs_of("datasets", name) == "tokens" else "conv4"
    real, found = registry.load("datasets", name), resolve(SearchConfig(arch=arch, dataset=name))
    assert (found.epochs, found.augment) == (real.EPOCHS, real.AUGMENT)


@pytest.mark.parametrize("text", ["Recipe(learning_rate=1 / 8)", "types.Recipe(**BASE)", "Recipe(nonsense=1)"])
def test_what_cannot_be_read_without_being_run_is_refused(tmp_path, monkeypatch, text):
    (tmp_path / "methods").mkdir()
    path = tmp_path / "methods" / "mine.py"
    monkeypatch.setattr(registry, "ROOT", tmp_path)
    path.write_text(f"class Mine(Method):\n    recipe: ClassVar[Recipe] = {text}\n")
    with pytest.raises(SupermaskError, match="use only literals in it"):
        registry.describe("methods", "mine")
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mine.py").write_text("EPOCHS: int = 7\n")
    assert registry.describe("datasets", "mine").constants == {"EPOCHS": 7}


def test_a_filled_config_leaves_nothing_open_but_what_the_machine_decides():
    config = resolve(SearchConfig(dataset="mnist", method="signed", options={"decay": "0.25"}))
    assert config.options.items() >= {"threshold": 0.4, "decay": 0.25}.items()
    assert (config.epochs, config.augment, config.optimizer) == (20, "none", "nesterov")
    open_still = {key for key, value in config.to_dict().items() if value is None}
    assert open_still == {"devices", "micro_batch", "image_size", "maskable", "unmasked", "train"}
    assert resolve(config) == config
    assert resolve(SearchConfig(method="random", epochs=3)).epochs == 0


@pytest.mark.parametrize("kind", registry.KINDS)
def test_unknown_names_list_the_valid_ones(kind):
    with pytest.raises(UsageError) as caught:
        registry.load(kind, "nothing-like-it")
    assert all(name in str(caught.value) for name in registry.names(kind))
