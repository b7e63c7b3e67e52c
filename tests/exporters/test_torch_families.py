"""Exports of the built-in families: torchvision's and timm's names, the logits of plain PyTorch modules in NCHW."""

from functools import partial

import jax
import numpy as np
import pytest
from helpers import random_ticket
from safetensors.numpy import load

from supermask import registry

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402


def exported(ticket):
    state = load(registry.load("exporters", "torch").encode(ticket))
    return {name: torch.from_numpy(array) for name, array in state.items()}


def check(made, net):
    """The network takes the export, and gives the same logits in evaluation mode."""
    ticket, model = made
    net.load_state_dict(exported(ticket), strict=True)
    images = np.random.default_rng(1).normal(size=(3, *ticket.image_shape)).astype(np.float32)
    apply = jax.jit(partial(model.apply, train=False, key=None))
    ours = np.asarray(apply(ticket.effective(), ticket.state, images)[0])
    with torch.no_grad():
        theirs = net.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    assert 0.01 < ours.std() < 10
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def conv(inputs, outputs, size=3, **more):
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **more)


class Vgg(nn.Module):
    def __init__(self, stages, channels, classifier):
        super().__init__()
        layers = []
        for stage in stages:
            for size in stage:
                layers += [conv(channels, size), nn.BatchNorm2d(size), nn.ReLU()]
                channels = size
            layers.append(nn.MaxPool2d(2))
        self.features, self.classifier = nn.Sequential(*layers), classifier

    def forward(self, x):
        x = self.features(x)
        if isinstance(self.classifier, nn.Linear):
            return self.classifier(x.mean((2, 3)))
        return self.classifier((functional.adaptive_avg_pool2d(x, 7) if len(self.classifier) > 1 else x).flatten(1))


def test_vgg():
    stages = [[6], [12], [25, 25], [51, 51], [51, 51]]
    made = random_ticket("vgg11", (32, 32, 3), width=0.1)
    check(made, Vgg(stages, 3, nn.Linear(51, 10)))


@pytest.mark.parametrize("size", [pytest.param((32, 32), marks=pytest.mark.slow), (64, 96)])
def test_vgg_with_the_classifier_of_imagenet(size):
    stages = [[1], [2], [5, 5], [10, 10], [10, 10]]
    layers = [nn.Linear(490, 81), nn.ReLU(), nn.Dropout(), nn.Linear(81, 81), nn.ReLU(), nn.Dropout(), nn.Linear(81, 7)]
    made = random_ticket("vgg11", (*size, 1), 7, width=0.02, head="mlp")
    check(made, Vgg(stages, 1, nn.Sequential(*layers)))


def test_vgg_small_flattens_its_images():
    made = random_ticket("vgg-small", (16, 24, 3), width=0.1)
    check(made, Vgg([[12, 12], [25, 25], [51, 51]], 3, nn.Sequential(nn.Linear(2 * 3 * 51, 10))))


class Inverted(nn.Module):
    def __init__(self, inputs, outputs, expansion, stride):
        super().__init__()
        hidden, layers = expansion * inputs, []
        if expansion > 1:
            layers.append(convolution(inputs, hidden, 1))
        layers += [
            convolution(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv, self.adds = nn.Sequential(*layers), stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


def convolution(inputs, outputs, size, **more):
    return nn.Sequential(conv(inputs, outputs, size, bias=False, **more), nn.BatchNorm2d(outputs), nn.ReLU6())


class Mobilenet(nn.Module):
    def __init__(self, width, strides, classes):
        super().__init__()
        channels, last = int(32 * width), int(1280 * width)
        layers = [convolution(3, channels, 3, stride=strides[0])]
        sizes, blocks = (16, 24, 32, 64, 96, 160, 320), (1, 2, 3, 4, 3, 3, 1)
        for i, (size, count, stride) in enumerate(zip(sizes, blocks, strides[1:], strict=True)):
            for block in range(count):
                layers.append(Inverted(channels, int(size * width), 6 if i else 1, 1 if block else stride))
                channels = int(size * width)
        self.features = nn.Sequential(*layers, convolution(channels, last, 1))
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(last, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


IMAGENET = pytest.param("imagenet", (2, 1, 2, 2, 2, 1, 2, 1), marks=pytest.mark.slow)


@pytest.mark.parametrize(("stem", "strides"), [("auto", (1, 1, 1, 2, 2, 1, 2, 1)), IMAGENET])
def test_mobilenet(stem, strides):
    made = random_ticket("mobilenet-v2", (20, 20, 3), width=0.1, stem=stem)
    check(made, Mobilenet(0.1, strides, 10))


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        parts = self.qkv(x).reshape(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.proj(functional.scaled_dot_product_attention(*parts).transpose(1, 2).reshape(x.shape))


class Mlp(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x):
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn, self.mlp = Attention(dim, heads), Mlp(dim)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    def __init__(self, dim, heads, patch, tokens, classes):
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dim, patch, patch)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens + 1, dim))
        self.blocks = nn.Sequential(*[Block(dim, heads) for _ in range(12)])
        self.norm, self.head = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, classes)

    def forward(self, x):
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


@pytest.mark.parametrize("norm", ["layer", pytest.param("affine", marks=pytest.mark.slow)])
def test_vit(norm):
    made = random_ticket("vit-tiny", (8, 12, 3), width=0.1, norm=norm)
    check(made, Vit(18, 3, 4, 6, 10))


class Norm(nn.LayerNorm):
    """Over the channels of NCHW."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Next(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv_dw, self.norm = conv(dim, dim, 7, groups=dim), nn.LayerNorm(dim, eps=1e-6)
        self.mlp, self.gamma = Mlp(dim), nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        seen = self.conv_dw(x).permute(0, 2, 3, 1)
        return x + (self.mlp(self.norm(seen)) * self.gamma).permute(0, 3, 1, 2)


class Stage(nn.Module):
    def __init__(self, inputs, outputs, depth):
        super().__init__()
        halved = nn.Sequential(Norm(inputs, eps=1e-6), nn.Conv2d(inputs, outputs, 2, 2))
        self.downsample = nn.Identity() if inputs == outputs else halved
        self.blocks = nn.Sequential(*[Next(outputs) for _ in range(depth)])

    def forward(self, x):
        return self.blocks(self.downsample(x))


class Convnext(nn.Module):
    def __init__(self, dims, patch, classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, dims[0], patch, patch), Norm(dims[0], eps=1e-6))
        pairs = zip([dims[0], *dims], dims, (3, 3, 9, 3), strict=False)
        self.stages = nn.Sequential(*[Stage(*pair) for pair in pairs])
        last = {"norm": nn.LayerNorm(dims[-1], eps=1e-6), "fc": nn.Linear(dims[-1], classes)}
        self.head = nn.ModuleDict(last)

    def forward(self, x):
        return self.head["fc"](self.head["norm"](self.stages(self.stem(x)).mean((2, 3))))


def test_convnext():
    made = random_ticket("convnext-tiny", (20, 18, 3), width=0.1, patch=2, layer_scale=0.5)
    check(made, Convnext((9, 19, 38, 76), 2, 10))


TORCHVISION = [
    ("vgg11", "A", "vgg11_bn", "batch"),
    ("vgg13", "B", "vgg13", "none"),
    ("vgg16", "D", "vgg16_bn", "affine"),
    ("vgg19", "E", "vgg19_bn", "batch"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "plan", "theirs", "norm"), TORCHVISION)
def test_torchvision_takes_vgg(name, plan, theirs, norm):
    vgg = pytest.importorskip("torchvision.models.vgg")
    with torch.device("meta"):
        published = getattr(vgg, theirs)()
    narrow = [size if size == "M" else int(size * 0.1) for size in vgg.cfgs[plan]]
    net = vgg.VGG(vgg.make_layers(narrow, batch_norm=norm != "none"), num_classes=10)
    dense = [nn.Linear(49 * 51, 409), nn.Linear(409, 409), nn.Linear(409, 10)]
    for place, layer in zip((0, 3, 6), dense, strict=True):
        net.classifier[place] = layer
    made = random_ticket(name, (32, 64, 3), width=0.1, head="mlp", norm=norm)
    assert exported(made[0]).keys() == published.state_dict().keys()
    check(made, net)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["batch", "affine"])
def test_torchvision_takes_mobilenet(norm):
    models = pytest.importorskip("torchvision.models")
    check(random_ticket("mobilenet-v2", (64, 64, 3), norm=norm), models.mobilenet_v2(num_classes=10))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dim"), [("tiny", 18), ("small", 36), ("base", 72)])
@pytest.mark.parametrize("norm", ["layer", "affine"])
def test_timm_takes_vit(name, dim, norm):
    timm = pytest.importorskip("timm")
    net = timm.create_model(f"vit_{name}_patch16_224", img_size=32, num_classes=10, embed_dim=dim)
    check(random_ticket(f"vit-{name}", (32, 32, 3), width=0.1, patch=16, norm=norm), net)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["layer", "affine"])
def test_timm_takes_convnext(norm):
    timm = pytest.importorskip("timm")
    net = timm.create_model("convnext_tiny", num_classes=10, dims=(9, 19, 38, 76))
    check(random_ticket("convnext-tiny", (64, 64, 3), width=0.1, norm=norm, layer_scale=0.1), net)
