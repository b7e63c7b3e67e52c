"""Residual networks: weight counts of the literature, shapes, options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import supermask
from supermask.archs._build import build_model
from supermask.archs._residual import without_parameters
from supermask.errors import UsageError
from supermask.resolve import make_arch
from supermask.weights.inits import draw

pytestmark = pytest.mark.usefixtures("compiled_quickly")

CIFAR, IMAGENET = (32, 32, 3), (224, 224, 3)


def model(name, image_shape=CIFAR, classes=10, width=1.0, **options):
    arch, left = make_arch(supermask.SearchConfig(arch=name, width=width, arch_options=options))
    return build_model(arch, left, jax.ShapeDtypeStruct((2, *image_shape), jnp.float32), classes)


def count(net):
    return sum(int(np.prod(shape)) for shape in net.weights.values())


def residual(stem, widths, counts, classes, *, projections=True, inner=None):
    """Weights of a network of basic blocks, or of bottlenecks whose 3x3 convolutions have `inner` channels."""
    total, before = stem, widths[0]
    for i, (width, blocks) in enumerate(zip(widths, counts, strict=True)):
        after = 4 * width if inner else width
        for j in range(blocks):
            if inner:
                total += before * inner[i] + 9 * inner[i] ** 2 + inner[i] * after
            else:
                total += 9 * before * after + 9 * after**2
            if projections and j == 0 and before != after:
                total += before * after
            before = after
    return total + before * classes


SMALL, BIG = (16, 32, 64), (64, 128, 256, 512)
DEEP = pytest.mark.slow  # a network of a hundred layers is traced for 20 s


@pytest.mark.parametrize(
    ("name", "published", "by_hand"),
    [
        ("resnet20", 268_336, residual(432, SMALL, (3, 3, 3), 10, projections=False)),
        pytest.param("resnet32", 461_872, residual(432, SMALL, (5, 5, 5), 10, projections=False), marks=DEEP),
        pytest.param("resnet44", 655_408, residual(432, SMALL, (7, 7, 7), 10, projections=False), marks=DEEP),
        pytest.param("resnet56", 848_944, residual(432, SMALL, (9, 9, 9), 10, projections=False), marks=DEEP),
        pytest.param("resnet110", 1_719_856, residual(432, SMALL, (18,) * 3, 10, projections=False), marks=DEEP),
        ("cresnet18", 11_164_352, residual(1728, BIG, (2, 2, 2, 2), 10)),
        pytest.param("cresnet34", 21_265_088, residual(1728, BIG, (3, 4, 6, 3), 10), marks=DEEP),
        pytest.param("cresnet50", 23_467_712, residual(1728, BIG, (3, 4, 6, 3), 10, inner=BIG), marks=DEEP),
        ("wrn-16-2", 689_840, residual(432, (16, 32, 64, 128), (0, 2, 2, 2), 10)),
        pytest.param("wrn-28-2", 1_463_984, residual(432, (16, 32, 64, 128), (0, 4, 4, 4), 10), marks=DEEP),
        pytest.param("wrn-28-10", 36_461_232, residual(432, (16, 160, 320, 640), (0, 4, 4, 4), 10), marks=DEEP),
    ],
)
def test_weight_counts_of_cifar_networks(name, published, by_hand):
    assert count(model(name)) == by_hand == published


@pytest.mark.parametrize(
    ("name", "published"),  # all parameters in torchvision's tables, less two per channel that is normalised and 1000
    [
        ("resnet18", 11_689_512 - 2 * 4_800 - 1000),
        pytest.param("resnet34", 21_797_672 - 2 * 8_512 - 1000, marks=DEEP),
        pytest.param("resnet50", 25_557_032 - 2 * 26_560 - 1000, marks=DEEP),
        pytest.param("resnet101", 44_549_160 - 2 * 52_672 - 1000, marks=DEEP),
        pytest.param("wide-resnet50-2", 68_883_240 - 2 * 34_112 - 1000, marks=DEEP),
    ],
)
def test_weight_counts_of_imagenet_networks(name, published):
    net = model(name, IMAGENET, 1000)
    assert count(net) == published
    channels = sum(shape[0] for key, shape in net.state.items() if key.endswith("mean"))
    assert channels == sum(shape[-1] for shape in net.weights.values() if len(shape) == 4)


def test_option_b_projects_where_the_shape_changes():
    found, plain = model("resnet20", shortcut="B").weights, model("resnet20").weights
    assert {name: shape for name, shape in found.items() if name not in plain} == {
        "layer2/0/downsample/0/kernel": (1, 1, 16, 32),
        "layer3/0/downsample/0/kernel": (1, 1, 32, 64),
    }


def test_option_a_takes_every_second_pixel_and_pads_channels_on_both_sides():
    x = np.arange(2 * 5 * 4 * 3, dtype=np.float32).reshape(2, 5, 4, 3)
    found = np.asarray(without_parameters(jnp.asarray(x), 2, 6))
    assert found.shape == (2, 3, 2, 6)
    np.testing.assert_array_equal(found[..., 1:4], x[:, [0, 2, 4]][:, :, [0, 2]])
    assert not found[..., [0, 4, 5]].any()
    np.testing.assert_array_equal(without_parameters(jnp.asarray(x), 1, 3), x)


def test_any_other_widening_factor_is_an_option():
    assert model("wrn-16", widen=2).weights == model("wrn-16-2").weights
    assert model("wrn-16", widen=3).weights["layer3/0/conv1/kernel"] == (3, 3, 96, 192)
    with pytest.raises(UsageError, match="option widen is 0; it must be 1 or more"):
        model("wrn-16", widen=0)
    with pytest.raises(UsageError, match="unknown option of wrn-16-2 'widen'"):
        model("wrn-16-2", widen=3)


@DEEP
def test_width_multiplies_every_hidden_width_of_a_bottleneck():
    shapes = model("wide-resnet50-2", (8, 8, 3), width=0.25).weights
    assert shapes["conv1/kernel"] == (7, 7, 3, 16)
    assert shapes["layer2/0/conv2/kernel"] == (3, 3, 64, 64)
    assert shapes["layer2/0/downsample/0/kernel"] == (1, 1, 64, 128)
    assert shapes["fc/kernel"] == (512, 10)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet20", {"shortcut": "C"}, "unknown option shortcut 'C'.*A, B"),
        ("resnet20", {"norm": "bath"}, "unknown option norm 'bath': did you mean batch"),
        ("cresnet18", {"norm": "instance"}, "unknown option norm 'instance'.*none, batch, affine, ghost, layer, group"),
    ],
)
def test_unknown_options_are_refused_on_one_line(name, options, message):
    with pytest.raises(UsageError, match=message) as caught:
        model(name, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "named"), [("none", 0), ("batch", 0), ("affine", 38), ("layer", 0), ("group", 0)])
def test_every_norm_can_be_chosen(kind, named):
    net = model("resnet20", (8, 8, 3), width=0.25, norm=kind)
    assert len([name for name in net.weights if name.endswith(("scale", "bias"))]) == named
    assert len(net.state) == (38 if kind in ("batch", "affine") else 0)
    assert {found.masked for name, found in net.parameters.items() if not name.endswith("kernel")} <= {False}


@pytest.mark.parametrize("name", ["resnet18", "resnet20", "wrn-16-2"])
def test_an_image_of_one_pixel_fits(name):
    assert model(name, (1, 1, 1), width=0.1).outputs.shape == (2, 10)


def test_evaluation_uses_the_running_statistics_and_leaves_them():
    net = model("resnet20", (8, 8, 3), width=0.25)
    random = np.random.default_rng(0)
    weights = draw("kaiming-normal", 0, net.weights)
    state = {key: np.float32(random.uniform(0.5, 1.5, shape)) for key, shape in net.state.items()}
    x = np.float32(random.normal(size=(4, 8, 8, 3)))
    evaluate = jax.jit(lambda x: net.apply(weights, state, x, train=False, key=None))
    logits, after = evaluate(x)
    for key, array in state.items():
        np.testing.assert_array_equal(after[key], array)
    alone = evaluate(np.repeat(x[:1], 4, axis=0))[0]
    np.testing.assert_allclose(alone[0], logits[0], rtol=1e-4, atol=1e-5)
