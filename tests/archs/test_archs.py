"""Networks: published layer tables, users' own modules, clear errors."""

import sys
import textwrap
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import built, problem_of

import supermask
from supermask import registry
from supermask.archs._build import build_model
from supermask.config.inputs import inputs_of
from supermask.errors import SupermaskError, UsageError
from supermask.types import Model
from supermask.weights.inits import draw

pytestmark = pytest.mark.usefixtures("compiled_quickly")

CIFAR, MNIST = (32, 32, 3), (28, 28, 1)


DEEP = ("convnext-tiny", "mobilenet-v2", "resnet18", "vit-tiny")  # compiled for longer than 5 s


def members():
    """All archs for images; those that are DEEP are slow, and of each family all but the first."""
    seen = set()
    for name in (name for name in registry.names("archs") if inputs_of("archs", name) == "images"):
        family = registry.load("archs", name)
        yield pytest.param(name, marks=[pytest.mark.slow] if family in seen or name in DEEP else [])
        seen.add(family)


def on_small_images(name, **words):
    """The arch on images of 16x16, or on the smallest that it takes."""
    try:
        return 16, built(name, (16, 16, 3), **words)
    except UsageError as error:
        size = int(str(error).partition("--image-size ")[2].split()[0])
        return size, built(name, (size, size, 3), **words)


@pytest.mark.parametrize("name", list(members()))
def test_contract(name):
    size, net = on_small_images(name, classes=7, width=0.1)
    assert list(net.weights) == sorted(net.weights)
    left = [key for key, found in net.parameters.items() if not found.drawn]
    own, state = net.initial(0, left)
    weights = draw("kaiming-normal", 0, net.parameters, own=own)
    x = np.random.default_rng(0).normal(size=(3, size, size, 3)).astype(np.float32)
    train, evaluate = (jax.jit(partial(net.apply, train=train)) for train in (True, False))
    logits, after = train(weights, state, x, key=jax.random.key(0))
    assert logits.shape == (3, 7)
    assert logits.dtype == jnp.float32
    assert after.keys() == net.state.keys() == net.changes
    assert np.isfinite(logits).all()
    single, same = evaluate(weights, after, x[:1], key=None)
    jax.tree.map(np.testing.assert_array_equal, same, after)
    if not net.state:
        np.testing.assert_allclose(single, logits[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "image_shape", "count"),
    [
        ("lenet300", MNIST, 266_200),
        ("conv2", CIFAR, 4_300_992),
        ("conv4", CIFAR, 2_425_024),
        ("conv6", CIFAR, 2_261_184),
        ("conv8", CIFAR, 5_275_840),
    ],
)
def test_weight_counts_are_the_published_ones(name, image_shape, count):
    assert sum(np.prod(shape) for shape in built(name, image_shape).weights.values()) == count


def test_conv4_layer_table():
    assert built("conv4").weights == {
        "conv1/kernel": (3, 3, 3, 64),
        "conv2/kernel": (3, 3, 64, 64),
        "conv3/kernel": (3, 3, 64, 128),
        "conv4/kernel": (3, 3, 128, 128),
        "dense1/kernel": (8192, 256),
        "dense2/kernel": (256, 256),
        "head/kernel": (256, 10),
    }


def test_width_multiplies_every_hidden_width():
    shapes = built("conv2", width=0.5).weights
    assert shapes["conv1/kernel"] == (3, 3, 3, 32)
    assert shapes["conv2/kernel"] == (3, 3, 32, 32)
    assert shapes["dense2/kernel"] == (128, 128)
    assert shapes["head/kernel"] == (128, 10)


@pytest.mark.parametrize(("name", "size"), [("conv8", 16), ("conv6", 8), ("conv4", 4)])
def test_too_deep_for_the_image_names_the_smallest_size(name, size):
    with pytest.raises(UsageError, match=f"at least {size}x{size}.*--image-size {size}"):
        built(name, (size - 1, size - 1, 1))
    assert built(name, (size, size, 1), width=0.1).weights


def test_unknown_names_answer_with_the_nearest():
    with pytest.raises(UsageError, match=r"did you mean conv4\?.*conv2, conv4, conv6, conv8"):
        registry.load("archs", "con4")
    with pytest.raises(UsageError, match="unknown arch 'conv3'"):
        registry.load("archs", "conv3")


OWN = """
    import dataclasses
    import jax, jax.numpy as jnp
    from flax import nnx
    from supermask import Method, Recipe
    from supermask import masks

    class MyNet(nnx.Module):
        def __init__(self, image_shape, classes, rngs):
            self.conv = nnx.Conv(image_shape[-1], 16, (3, 3), strides=2, rngs=rngs)
            self.norm = nnx.BatchNorm(16, use_bias=False, use_scale=False, rngs=rngs)
            self.blocks = nnx.List([nnx.Linear(256, 32, rngs=rngs), nnx.Linear(32, classes, rngs=rngs)])

        def __call__(self, x):
            x = jax.nn.relu(self.norm(self.conv(x))).reshape(x.shape[0], -1)
            return self.blocks[1](jax.nn.relu(self.blocks[0](x)))

    class Dropping(MyNet):
        def __init__(self, image_shape, classes, rngs):
            super().__init__(image_shape, classes, rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return super().__call__(self.drop(x))

    class Keeping(MyNet):
        def __init__(self, image_shape, classes, rngs):
            super().__init__(image_shape, classes, rngs)
            self.held = rngs.params()

    class Asking(MyNet):
        def __call__(self, x, mood):
            return super().__call__(x)

    class Listing(MyNet):
        def __init__(self, image_shape, classes, rngs):
            super().__init__(image_shape, classes, rngs)
            self.more = [nnx.Linear(2, 2, rngs=rngs)]

    class Needy(nnx.Module):
        def __init__(self, image_shape, classes, hidden, rngs, scale=1.0, bias: bool = True):
            size = image_shape[0] * image_shape[1] * image_shape[2]
            self.scale, self.bias = scale, bias
            self.first = nnx.Linear(size, hidden, use_bias=bias, rngs=rngs)
            self.second = nnx.Linear(hidden, classes, use_bias=bias, rngs=rngs)

        def __call__(self, x):
            return self.second(jax.nn.relu(self.first(x.reshape(x.shape[0], -1)))) * self.scale

    def needy(image_shape, classes, rngs, hidden=8):
        return Needy(image_shape, classes, hidden, rngs)

    class WrongHead(nnx.Module):
        def __init__(self, rngs):
            self.head = nnx.Linear(64, 3, rngs=rngs)

        def __call__(self, x):
            return self.head(x.reshape(x.shape[0], -1))

    class Broken(nnx.Module):
        def __init__(self, rngs):
            raise RuntimeError("no such thing")

    @dataclasses.dataclass(frozen=True)
    class Positive(Method):
        margin: float = 0.0

        def init(self, key, weights, context):
            return masks.uniform_scores(key, weights)

        def mask(self, scores, weights, *, key, progress):
            return {k: masks.straight_through(s > self.margin, s) for k, s in scores.items()}

        def harden(self, scores, weights):
            return {k: s > self.margin for k, s in scores.items()}
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "ownpkg.py").write_text(textwrap.dedent(OWN))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("ownpkg", None)


@pytest.mark.slow
def test_a_users_own_module_is_searched_evaluated_and_its_statistics_kept(own, tmp_path):
    [ticket] = supermask.search(supermask.SearchConfig(arch="ownpkg:MyNet", epochs=8))
    assert list(ticket.mask) == ["blocks/0/kernel", "blocks/1/kernel", "conv/kernel"]
    assert ticket.state.keys() == {"norm/mean", "norm/var"}
    assert not np.allclose(ticket.state["norm/var"], 1)
    loaded = supermask.Ticket.load(ticket.save(tmp_path / "t.safetensors"))
    found = supermask.evaluate(loaded)
    assert found.reproduced
    assert found.accuracy > 0.4


def test_a_users_own_method_is_used_with_its_options(own):
    config = supermask.SearchConfig(arch="lenet300", method="ownpkg:Positive", options={"margin": "0.01"}, epochs=3)
    [ticket] = supermask.search(config)
    assert ticket.config.options == {"margin": 0.01}
    assert 0.2 < ticket.density < 0.5
    assert supermask.evaluate(ticket).accuracy > 0.5


@pytest.mark.parametrize(
    ("arch", "error", "message"),
    [
        ("ownpkg:Keeping", UsageError, "held of Keeping holds key<fry>; it must be an array of numbers"),
        ("ownpkg:Asking", UsageError, "Asking is called with mood, whose value supermask does not know"),
        ("ownpkg:Listing", SupermaskError, "cannot make the network Listing: .*list"),
        ("ownpkg:Needy", UsageError, "needs the option hidden: give -a hidden=VALUE"),
        ("ownpkg:WrongHead", UsageError, r"it must return \(2, 10\)"),
        ("ownpkg:Broken", SupermaskError, "no such thing"),
        ("ownpkg:Absent", UsageError, "no attribute 'Absent'"),
        ("nopkg:Net", SupermaskError, "cannot import 'nopkg'"),
    ],
)
def test_bad_modules_are_refused_on_one_line(own, arch, error, message):
    with pytest.raises(error, match=message) as caught:
        problem_of(arch=arch)
    assert "\n" not in str(caught.value)


def test_own_convolutions_take_the_fast_path(own):
    model = problem_of(arch="ownpkg:MyNet").model
    weights, state = jax.device_put((draw("kaiming-normal", 0, model.weights), model.initial(0, ())[1]))
    apply = lambda x: model.apply(weights, state, x, train=True, key=jax.random.key(0))  # noqa: E731
    text = str(jax.make_jaxpr(apply)(jnp.zeros((2, 8, 8, 1))))
    assert "conv_general_dilated" not in text


def test_options_reach_a_users_own_class_and_function(own):
    shapes = problem_of(
        arch="ownpkg:Needy", arch_options={"hidden": "24", "scale": "0.5", "bias": "false"}
    ).model.weights
    assert shapes == {"first/kernel": (64, 24), "second/kernel": (24, 10)}
    assert problem_of(arch="ownpkg:needy", arch_options={"hidden": 12}).model.weights["first/kernel"] == (64, 12)
    with pytest.raises(UsageError, match=r"unknown option of needy 'hiden': did you mean hidden\?"):
        problem_of(arch="ownpkg:needy", arch_options={"hiden": 12})
    with pytest.raises(UsageError, match="unknown option of conv4 'hidden': there are none"):
        problem_of(arch="conv4", arch_options={"hidden": 12})


def test_a_function_may_return_a_model():
    def linear(image_shape, classes):
        def apply(weights, state, inputs, *, train, key):
            return inputs.reshape(len(inputs), -1) @ weights["w"], state

        return Model(weights={"w": (int(np.prod(image_shape)), classes)}, state={}, apply=apply)

    found = build_model(linear, {}, jax.ShapeDtypeStruct((2, *MNIST), jnp.float32), 10)
    assert found.weights == {"w": (784, 10)}
    x, weights = jnp.ones((2, *MNIST)), {"w": jnp.ones((784, 10))}
    np.testing.assert_array_equal(found.apply(weights, {}, x, train=False, key=None)[0], np.full((2, 10), 784))


@pytest.mark.slow
def test_a_network_with_dropout_is_searched_and_evaluated(own):
    config = supermask.SearchConfig(arch="ownpkg:Dropping", epochs=2)
    [ticket], [again] = supermask.search(config), supermask.search(config)
    assert ticket.to_bytes() == again.to_bytes()
    assert ticket.state.keys() == {"norm/mean", "norm/var"}
    assert supermask.evaluate(ticket).reproduced


def test_dropout_draws_from_the_key_in_training_and_not_in_evaluation(own):
    model = problem_of(arch="ownpkg:Dropping").model
    weights, state = jax.device_put((draw("kaiming-normal", 0, model.weights), model.initial(0, ())[1]))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 8, 1)), jnp.float32)
    trained = lambda seed: model.apply(weights, state, x, train=True, key=jax.random.key(seed))[0]  # noqa: E731
    np.testing.assert_array_equal(trained(1), trained(1))
    assert not np.array_equal(trained(1), trained(2))
    one, other = (model.apply(weights, state, x, train=False, key=None)[0] for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_a_width_that_means_nothing_is_refused(own):
    with pytest.raises(UsageError, match="no parameter width to multiply: leave out --width"):
        problem_of(arch="ownpkg:MyNet", width=0.5)
