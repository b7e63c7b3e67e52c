"""Residual networks in PyTorch: written by hand there, and torchvision's where it is installed, the same logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load

import supermask
from supermask import registry
from supermask.archs._build import build_model
from supermask.resolve import make_arch, resolve
from supermask.weights.trained import TrainedWeights

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def exported(name, image_shape=(20, 17, 3), width=0.25, **options):
    """(the content of the export as PyTorch's tensors, images in NCHW, our logits), all values random."""
    config = resolve(supermask.TrainConfig(arch=name, width=width, arch_options=options))
    arch, left = make_arch(config)
    model = build_model(arch, left, jax.ShapeDtypeStruct((2, *image_shape), jnp.float32), 10)
    random = np.random.default_rng(0)
    weights = {
        key: random.normal(0, np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 1, shape).astype(np.float32)
        for key, shape in model.weights.items()
    }
    mean, var = lambda shape: random.normal(0, 0.3, shape), lambda shape: random.uniform(0.5, 2, shape)
    state = {key: np.float32((var if key.endswith("var") else mean)(shape)) for key, shape in model.state.items()}
    metrics = {"val_accuracy": 0.0}
    trained = TrainedWeights(config, image_shape, weights, {}, state, metrics, parameters=model.parameters)
    found = load(registry.load("exporters", "torch").encode(trained))
    x = random.normal(size=(4, *image_shape)).astype(np.float32)
    logits = jax.jit(lambda x: model.apply(weights, state, x, train=False, key=None)[0])(x)
    tensors = {key: torch.from_numpy(array) for key, array in found.items()}
    return tensors, torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), np.asarray(logits)


def modules(state):
    """A module of PyTorch's layers under the names of a state_dict, loaded strictly."""
    net = nn.Module()
    for name, weight in state.items():
        path, _, leaf = name.rpartition(".")
        if weight.ndim == 4:
            layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], bias=False)
        elif weight.ndim == 2:
            layer = nn.Linear(weight.shape[1], weight.shape[0])
        elif leaf == "running_var":
            layer = nn.BatchNorm2d(len(weight))
        else:
            continue
        *parents, own = path.split(".")
        at = net
        for parent in parents:
            if not hasattr(at, parent):
                at.add_module(parent, nn.Module())
            at = getattr(at, parent)
        at.add_module(own, layer)
    net.load_state_dict(state, strict=True)
    return net.eval()


def conv(layer, x, stride=1):
    return nn.functional.conv2d(x, layer.weight, None, stride, layer.weight.shape[2] // 2)


def shortcut(block, x, stride, channels):
    if not hasattr(block, "downsample"):
        more = channels - x.shape[1]
        return nn.functional.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, more // 2, more - more // 2))
    x = conv(getattr(block.downsample, "0"), x, stride)
    return getattr(block.downsample, "1")(x) if hasattr(block.downsample, "1") else x


def after(block, x, stride):
    """A block whose norms come after its convolutions."""
    if hasattr(block, "conv3"):
        y = torch.relu(block.bn1(conv(block.conv1, x)))
        y = torch.relu(block.bn2(conv(block.conv2, y, stride)))
        y = block.bn3(conv(block.conv3, y))
    else:
        y = torch.relu(block.bn1(conv(block.conv1, x, stride)))
        y = block.bn2(conv(block.conv2, y))
    return torch.relu(y + shortcut(block, x, stride, y.shape[1]))


def before(block, x, stride):
    """A block whose norms come before its convolutions."""
    ready = torch.relu(block.bn1(x))
    y = conv(block.conv2, torch.relu(block.bn2(conv(block.conv1, ready, stride))))
    return y + (shortcut(block, ready, stride, y.shape[1]) if hasattr(block, "downsample") else x)


def forward(net, x, block):
    if block is before:
        x = conv(net.conv1, x)
    else:
        big = net.conv1.weight.shape[2] == 7
        x = torch.relu(net.bn1(conv(net.conv1, x, 2 if big else 1)))
        x = torch.max_pool2d(x, 3, 2, 1) if big else x
    for i in range(1, 5):
        blocks = dict(getattr(net, f"layer{i}", nn.Module()).named_children())
        for j in range(len(blocks)):
            x = block(blocks[str(j)], x, 2 if i > 1 and j == 0 else 1)
    x = torch.relu(net.bn(x)) if block is before else x
    return net.fc(x.mean((2, 3)))


@pytest.mark.parametrize(
    ("name", "options", "block"),
    [
        ("resnet20", {}, after),
        pytest.param("resnet20", {"shortcut": "B", "norm": "affine"}, after, marks=pytest.mark.slow),
        ("wrn-16-2", {}, before),
        ("resnet18", {}, after),
        pytest.param("cresnet18", {}, after, marks=pytest.mark.slow),
        pytest.param("resnet50", {}, after, marks=pytest.mark.slow),
    ],
)
def test_logits_agree(name, options, block):
    state, x, ours = exported(name, **options)
    with torch.no_grad():
        theirs = forward(modules(state), x, block).numpy()
    assert np.abs(ours).max() > 0.01
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "published", "norm"),
    [
        ("resnet18", "resnet18", "batch"),
        ("resnet18", "resnet18", "affine"),
        ("resnet50", "resnet50", "batch"),
        ("wide-resnet50-2", "wide_resnet50_2", "batch"),
    ],
)
def test_torchvisions_networks_load_an_export_strictly(name, published, norm):
    models = pytest.importorskip("torchvision.models")
    state, x, ours = exported(name, (40, 33, 3), width=1.0, norm=norm)
    net = getattr(models, published)(num_classes=10)
    net.load_state_dict(state, strict=True)
    with torch.no_grad():
        theirs = net.eval()(x).numpy()
    scale = np.abs(theirs).max()  # of a deep network with random weights the logits are large
    assert scale > 0.01
    np.testing.assert_allclose(ours / scale, theirs / scale, atol=1e-4)
