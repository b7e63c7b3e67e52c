"""What a config says of its network and the network has no use for is refused, not ignored."""

import json
import sys

import pytest
from helpers import problem_of

import supermask
from supermask import SearchConfig, TrainConfig, registry
from supermask.cli import main
from supermask.config.network import takes_activation
from supermask.errors import UsageError
from supermask.resolve import resolve

pytestmark = pytest.mark.usefixtures("compiled_quickly")

FIXED = {"mobilenet-v2", "transformer", "vit-tiny", "vit-small", "vit-base", "convnext-tiny"}
"""Built-in networks whose activation is their own."""

OWN = """
from dataclasses import dataclass

import jax
from flax import linen, nnx


class Fixed(nnx.Module):
    def __init__(self, image_shape, classes, rngs):
        self.head = nnx.Linear(image_shape[0] * image_shape[1] * image_shape[2], classes, rngs=rngs)

    def __call__(self, x):
        return self.head(x.reshape(len(x), -1))


class Open(Fixed):
    def __init__(self, image_shape, classes, rngs, activation=jax.nn.relu):
        super().__init__(image_shape, classes, rngs)
        self.activation = activation

    def __call__(self, x):
        return super().__call__(self.activation(x))


def fixed(image_shape, classes, rngs):
    return Fixed(image_shape, classes, rngs)


def open_ended(image_shape, classes, rngs, **more):
    return Fixed(image_shape, classes, rngs)


def takes(image_shape, classes, rngs, activation):
    return Open(image_shape, classes, rngs, activation)


class Linen(linen.Module):
    classes: int
    activation: object = None

    @linen.compact
    def __call__(self, x):
        return linen.Dense(self.classes)(self.activation(x).reshape(len(x), -1))


@dataclass(frozen=True)
class Arch:
    hidden: int = 3

    def build(self, example, outputs, rngs):
        return Fixed(example.shape[1:], outputs, rngs)
"""
OWN_FIXED, OWN_OPEN = ("Fixed", "fixed", "open_ended", "Arch"), ("Open", "takes", "Linen")


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "actpkg.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("actpkg", None)


def refused(capsys, *words):
    """The line on stderr of a call whose words are wrong."""
    with pytest.raises(SystemExit) as stop:
        main(["search", "--dry-run", *words])
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, ""), err
    [line] = err.splitlines()
    return line


def dry(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main(["search", "--dry-run", "--json", *words])
    out, err = capsys.readouterr()
    assert not stop.value.code, err
    return json.loads(out)


def test_which_networks_take_an_activation(own):
    assert {name for name in registry.names("archs") if not takes_activation(name)} == FIXED
    assert not any(takes_activation(f"actpkg:{name}") for name in OWN_FIXED)
    assert all(takes_activation(f"actpkg:{name}") for name in OWN_OPEN)


@pytest.mark.parametrize("arch", [*sorted(FIXED), *(f"actpkg:{name}" for name in OWN_FIXED)])
def test_an_activation_that_the_network_does_not_take_is_refused(own, arch):
    names = {"arch": arch, "dataset": "modadd" if arch == "transformer" else "digits"}
    with pytest.raises(UsageError, match=f"^{arch} has an activation of its own: leave out --activation$"):
        resolve(SearchConfig(**names, activation="elu"))
    with pytest.raises(UsageError, match="leave out --activation"):
        resolve(TrainConfig(**names, activation="elu"))
    assert resolve(SearchConfig(**names)).activation is None
    assert resolve(TrainConfig(**names)).activation is None


@pytest.mark.parametrize("value", ["relu", "elu"])
def test_a_typed_activation_is_refused_even_if_it_is_the_recipes(capsys, monkeypatch, value):
    assert "mobilenet-v2 has an activation of its own" in refused(
        capsys, "--arch", "mobilenet-v2", "--activation", value
    )
    monkeypatch.setenv("SUPERMASK_ACTIVATION", value)
    assert "convnext-tiny has an activation of its own" in refused(capsys, "--arch", "convnext-tiny")
    assert dry(capsys, "--arch", "resnet20")["activation"] == value


def test_the_recipes_activation_is_not_the_users(capsys):
    assert dry(capsys, "--arch", "vit-tiny", "--method", "signed")["activation"] is None
    assert dry(capsys, "--arch", "resnet20", "--method", "signed")["activation"] == "elu"
    assert resolve(SearchConfig(arch="vgg11", activation="elu")).activation == "elu"


def test_a_resolved_config_stays_as_it_is(own):
    for config in (SearchConfig(arch="vit-tiny", method="signed"), SearchConfig(arch="actpkg:Fixed")):
        assert resolve(resolve(config)) == resolve(config)


def test_files_that_name_an_activation_for_every_network_mean_what_they_did(own):
    """So did configs before: the recipe's, whether or not the network took it."""
    old = resolve(SearchConfig(arch="actpkg:Fixed", method="signed", epochs=1)).replace(activation="elu")
    assert resolve(old).activation is None
    inherited = TrainConfig(arch="actpkg:Fixed", activation="elu", ticket="gone", ticket_sha256="0" * 64)
    assert resolve(inherited).activation is None
    [ticket] = supermask.search(SearchConfig(arch="actpkg:Fixed", epochs=1))
    object.__setattr__(ticket, "config", ticket.config.replace(activation="elu"))
    assert supermask.evaluate(ticket).reproduced


def test_an_activation_reaches_a_network_that_takes_it(own):
    assert problem_of(arch="actpkg:takes", activation="elu").config.activation == "elu"


@pytest.mark.parametrize(
    ("arch", "options", "field", "message"),
    [
        ("resnet20", {}, "train", "--train {}: resnet20 with norm=batch has no norm parameter; give -a norm=affine"),
        ("vgg11", {"norm": "none"}, "train", "vgg11 with norm=none has no norm parameter; give -a norm=affine"),
        ("vit-tiny", {}, "maskable", "--maskable {}: vit-tiny with norm=layer has no norm parameter"),
        ("wrn-16-2", {"norm": "group"}, "unmasked", "--unmasked {}: wrn-16-2 with norm=group has no norm parameter"),
        ("conv4", {}, "train", "--train {0}: conv4 has neither norms nor biases; leave {0} out"),
    ],
)
def test_norms_without_parameters_are_not_trained_nor_masked(arch, options, field, message):
    for word in ("norm", "bias"):
        with pytest.raises(UsageError, match=message.format(word)):
            resolve(SearchConfig(arch=arch, arch_options=options, **{field: f"head, {word}"}))


SLOWER = [pytest.param(name, marks=pytest.mark.slow) for name in ("vgg11", "mobilenet-v2", "vit-tiny", "convnext-tiny")]


@pytest.mark.parametrize("arch", ["resnet20", *SLOWER])
def test_affine_norms_are_trained(arch):
    config = SearchConfig(arch=arch, width=0.1, image_size=32, arch_options={"norm": "affine"}, train="norm")
    parameters = problem_of(config).parameters
    trained = {name for name, found in parameters.items() if found.trained}
    assert trained == {name for name, found in parameters.items() if found.layer.endswith("Norm")} != set()


def test_own_networks_answer_with_their_names(own):
    with pytest.raises(UsageError, match="--train norm names no parameter; there are: head/bias, head/kernel"):
        problem_of(arch="actpkg:Fixed", train="norm")
    assert problem_of(arch="actpkg:Fixed", train="bias").parameters["head/bias"].trained
