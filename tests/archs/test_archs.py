"""Networks: published layer tables, users' own modules, clear errors."""

import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import supermask
from supermask import registry
from supermask.archs._adapt import adapt
from supermask.engine.problem import build, initial_stats
from supermask.errors import SupermaskError, UsageError
from supermask.nn.conv import convolution
from supermask.weights.inits import draw

CIFAR, MNIST = (32, 32, 3), (28, 28, 1)


def model(name, image_shape=CIFAR, classes=10, width=1.0):
    depth = registry.depth_of("archs", name)
    made = registry.load("archs", name)
    return adapt(made, convolution(), image_shape=image_shape, classes=classes, width=width, depth=depth)


@pytest.mark.parametrize("name", registry.names("archs"))
def test_contract(name):
    net = model(name, (16, 16, 3), classes=7, width=0.25)
    assert list(net.weights) == sorted(net.weights)
    weights = draw("kaiming-normal", 0, net.weights)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 16, 16, 3)), jnp.float32)
    logits, stats = net.apply(weights, initial_stats(net.stats), x, True)
    assert logits.shape == (3, 7)
    assert logits.dtype == jnp.float32
    assert stats.keys() == net.stats.keys()
    assert np.isfinite(logits).all()
    single, _ = net.apply(weights, initial_stats(net.stats), x[:1], False)
    if not net.stats:
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
    assert sum(np.prod(shape) for shape in model(name, image_shape).weights.values()) == count


def test_conv4_layer_table():
    assert model("conv4").weights == {
        "conv1/kernel": (3, 3, 3, 64),
        "conv2/kernel": (3, 3, 64, 64),
        "conv3/kernel": (3, 3, 64, 128),
        "conv4/kernel": (3, 3, 128, 128),
        "dense1/kernel": (8192, 256),
        "dense2/kernel": (256, 256),
        "head/kernel": (256, 10),
    }


def test_width_multiplies_every_hidden_width():
    shapes = model("conv2", width=0.5).weights
    assert shapes["conv1/kernel"] == (3, 3, 3, 32)
    assert shapes["conv2/kernel"] == (3, 3, 32, 32)
    assert shapes["dense2/kernel"] == (128, 128)
    assert shapes["head/kernel"] == (128, 10)


@pytest.mark.parametrize(("name", "size"), [("conv8", 16), ("conv6", 8), ("conv4", 4)])
def test_too_deep_for_the_image_names_the_smallest_size(name, size):
    with pytest.raises(UsageError, match=f"at least {size}x{size}.*--image-size {size}"):
        model(name, (size - 1, size - 1, 1))
    assert model(name, (size, size, 1), width=0.1).weights


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

        def init(self, key, weights):
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


def test_a_users_own_module_is_searched_evaluated_and_its_statistics_kept(own, tmp_path):
    [ticket] = supermask.search(supermask.SearchConfig(arch="ownpkg:MyNet", epochs=8))
    assert list(ticket.mask) == ["blocks/0/kernel", "blocks/1/kernel", "conv/kernel"]
    assert ticket.stats.keys() == {"norm/mean", "norm/var"}
    assert not np.allclose(ticket.stats["norm/var"], 1)
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
        ("ownpkg:Dropping", UsageError, "leave out dropout"),
        ("ownpkg:WrongHead", UsageError, r"must give logits of shape \(2, 10\)"),
        ("ownpkg:Broken", SupermaskError, "no such thing"),
        ("ownpkg:Absent", UsageError, "no attribute 'Absent'"),
        ("nopkg:Net", SupermaskError, "cannot import 'nopkg'"),
    ],
)
def test_bad_modules_are_refused_on_one_line(own, arch, error, message):
    with pytest.raises(error, match=message) as caught:
        build(supermask.SearchConfig(arch=arch))
    assert "\n" not in str(caught.value)


def test_own_convolutions_take_the_fast_path(own):
    parts = build(supermask.SearchConfig(arch="ownpkg:MyNet"))
    weights, stats = jax.device_put((draw("kaiming-normal", 0, parts.model.weights), initial_stats(parts.model.stats)))
    text = str(jax.make_jaxpr(lambda x: parts.model.apply(weights, stats, x, True))(jnp.zeros((2, 8, 8, 1))))
    assert "conv_general_dilated" not in text
