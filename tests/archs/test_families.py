"""VGG, MobileNetV2, ViT, ConvNeXt: weights of the literature, sizes of images, options, roles.

Published numbers of parameters hold biases and norms, which are taken off here.
"""

import itertools

import jax
import numpy as np
import pytest
from helpers import built

from supermask.archs._build import build_model
from supermask.archs.vit import Vit
from supermask.errors import UsageError

pytestmark = pytest.mark.usefixtures("compiled_quickly")

CIFAR, IMAGENET = (32, 32, 3), (224, 224, 3)


def count(model, masked=True):
    return sum(int(np.prod(p.shape)) for p in model.parameters.values() if p.masked == masked)


def shallow(image, **options):
    """A ViT of one block."""
    return build_model(Vit(depth=1, **options), {}, jax.ShapeDtypeStruct((2, *image), "float32"), 10)


def vgg_convolutions(*widths):
    return sum(9 * before * after for before, after in zip((3, *widths), widths, strict=False))


VGG11 = (64, 128, 256, 256, 512, 512, 512, 512)
VGG16 = (64, 64, 128, 128, *(256,) * 3, *(512,) * 6)


@pytest.mark.parametrize(
    ("name", "image", "classes", "weights"),
    [
        ("vgg11", CIFAR, 10, vgg_convolutions(*VGG11) + 5120),
        ("vgg16", CIFAR, 10, 14_715_584),
        ("vgg-small", CIFAR, 10, 4_656_512),
        ("vgg16", IMAGENET, 1000, 138_357_544 - sum(VGG16) - 4096 - 4096 - 1000),
        ("mobilenet-v2", IMAGENET, 1000, 3_504_872 - 2 * 17_056 - 1000),
        ("vit-tiny", IMAGENET, 1000, 5_717_416 - 198 * 192 - 12 * 13 * 192 - 3 * 192 - 1000),
        ("vit-small", IMAGENET, 1000, 22_050_664 - 198 * 384 - 12 * 13 * 384 - 3 * 384 - 1000),
        ("vit-base", IMAGENET, 1000, 86_567_656 - 198 * 768 - 12 * 13 * 768 - 3 * 768 - 1000),
    ],
)
def test_weights_of_the_literature(name, image, classes, weights):
    assert count(built(name, image, classes)) == weights


def test_weights_of_convnext():
    dims, depths = (96, 192, 384, 768), (3, 3, 9, 3)
    biases = sum(depth * 8 * dim for dim, depth in zip(dims, depths, strict=True))  # with the norm, and gamma
    around = 3 * dims[0] + sum(2 * a + b for a, b in itertools.pairwise(dims)) + 2 * dims[-1] + 1000
    model = built("convnext-tiny", IMAGENET, 1000)
    assert count(model) == 28_589_128 - biases - around - sum(d * n for d, n in zip(dims, depths, strict=True))
    assert count(model, masked=False) == sum(dim * depth for dim, depth in zip(dims, depths, strict=True))


def test_vgg_is_numbered_as_torchvision_does():
    """Convolution, norm, ReLU take a place each, and so do pools; without norms there are fewer places."""
    assert [n for n in built("vgg11").weights if n.startswith("features")] == sorted(
        f"features/{i}/kernel" for i in (0, 4, 8, 11, 15, 18, 22, 25)
    )
    assert [n for n in built("vgg11", norm="none").weights if n.startswith("features")] == sorted(
        f"features/{i}/kernel" for i in (0, 3, 6, 8, 11, 13, 16, 18)
    )


def test_the_head_of_vgg_is_by_the_size_of_the_images():
    assert built("vgg11", width=0.1).weights["classifier/kernel"] == (51, 10)
    assert built("vgg11", IMAGENET, width=0.1).weights["classifier/0/kernel"] == (49 * 51, 409)
    assert built("vgg11", IMAGENET, width=0.1, head="linear").weights["classifier/kernel"] == (51, 10)


def test_a_narrow_vit_has_whole_heads():
    assert shallow(CIFAR, width=0.1).weights["blocks/0/attn/qkv/kernel"] == (18, 54)
    assert shallow(CIFAR, width=1e-6).weights["head/kernel"] == (3, 10)


@pytest.mark.parametrize(
    ("image", "patch"), [((28, 28, 1), 4), ((30, 18, 3), 3), ((256, 224, 3), 16), ((250, 250, 3), 10), ((1, 1, 1), 1)]
)
def test_the_patch_divides_the_image(image, patch):
    assert shallow(image, width=0.1).weights["patch_embed/proj/kernel"] == (patch, patch, image[-1], 18)


def test_a_patch_may_be_a_pixel():
    assert shallow((6, 6, 3), width=0.1, patch=1).weights["patch_embed/proj/kernel"] == (1, 1, 3, 18)


def test_what_a_vit_keeps_of_its_own():
    model = shallow(CIFAR, width=0.1)
    left = {name: found.role for name, found in model.parameters.items() if not found.masked}
    assert left == {"cls_token": "other", "pos_embed": "bias"}
    own, _ = model.initial(0, list(left))
    assert own["pos_embed"].std() == pytest.approx(1, abs=0.1)


@pytest.mark.slow  # tests/archs/test_networks.py has dropout in a network of a user's
def test_dropout_is_off_in_evaluation():
    model = shallow((8, 8, 3), width=0.02, dropout=0.3, attention_dropout=0.3)
    weights = {name: np.ones(shape, np.float32) / 9 for name, shape in model.weights.items()}
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    same = jax.jit(lambda key: model.apply(weights, {}, x, train=False, key=key)[0])
    drawn = jax.jit(lambda key: model.apply(weights, {}, x, train=True, key=key)[0])
    first, second = jax.random.key(1), jax.random.key(2)
    np.testing.assert_array_equal(same(first), same(second))
    assert np.abs(drawn(first) - drawn(second)).max() > 0


@pytest.mark.parametrize(
    ("name", "image", "options", "message"),
    [
        (
            "vgg16",
            (31, 40, 3),
            {},
            "vgg16 needs images of at least 32x32, these are 31x40: use --image-size 32",
        ),
        ("vgg-small", (7, 7, 3), {}, "vgg-small needs images of at least 8x8"),
        ("vgg11", CIFAR, {"head": "dense"}, "unknown option head 'dense': .*linear"),
        ("mobilenet-v2", CIFAR, {"stem": "cifar10"}, "unknown option stem 'cifar10': did you mean cifar"),
        ("vit-tiny", CIFAR, {"norm": "bath"}, "unknown option norm 'bath': did you mean batch"),
        ("vit-tiny", CIFAR, {"patch": 5}, "patches of 5 .* images of 32x32: use --image-size 30, or -a patch=4"),
        ("vit-tiny", CIFAR, {"patch": 64}, "a patch of 64 needs images of at least 64x64"),
        ("vit-tiny", (31, 31, 1), {}, "patches of 4 .* images of 31x31: use --image-size 32, or -a patch=1"),
        ("vit-tiny", CIFAR, {"patch": -1}, "option patch is -1"),
        ("vit-tiny", CIFAR, {"dropout": 1.0}, "option dropout is 1.0; it must be at least 0 and below 1"),
        ("vit-tiny", CIFAR, {"position_std": -1.0}, "option position_std is -1.0"),
        ("convnext-tiny", (7, 9, 3), {}, "at least 8x8, these are 7x9: use --image-size 8 or more"),
        ("convnext-tiny", CIFAR, {"patch": 8}, "at least 64x64, .*: use --image-size 64 or more, or -a patch=4"),
        ("convnext-tiny", CIFAR, {"patch": -2}, "option patch is -2"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(name, image, options, message):
    with pytest.raises(UsageError, match=message):
        built(name, image, width=0.1, **options)
