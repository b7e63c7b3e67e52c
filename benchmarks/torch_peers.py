"""Today's mask search in PyTorch: what `peers.py` measures ours against.

Edge-popup, written anew from its paper: Ramanujan, Wortsman, Kembhavi, Farhadi and Rastegari, "What's Hidden in a
Randomly Weighted Neural Network?", CVPR 2020, arXiv 1911.13299. Every layer keeps the `density` share of its weights
that has the largest |score|; gradients pass straight through that choice. No biases, weights are frozen signed
constants, scores are trained by SGD. Linear layers are 1x1 convolutions, as in the published code, which so gets by
with one masked layer type; `tuned` has real linear layers, twice as fast on a CPU. Where published habits cost time
outside of the selection, the peer is given the faster way: one scatter after the sort, no `.item()`, no PIL.
"""

import argparse
import itertools
import json
import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

# Image shape, widths of the pairs of 3x3 convolutions, widths of the linear layers, number of weights.
NETS = {
    "lenet300": ((1, 28, 28), (), (300, 100, 10), 266_200),
    "conv2": ((3, 32, 32), (64,), (256, 256, 10), 4_300_992),
    "conv4": ((3, 32, 32), (64, 128), (256, 256, 10), 2_425_024),
    "conv6": ((3, 32, 32), (64, 128, 256), (256, 256, 10), 2_261_184),
    "vgg11": ((3, 32, 32), (64, "P", 128, "P", 256, 256, "P", 512, 512, "P", 512, 512, "P"), (10,), 9_222_848),
    "resnet20": ((3, 32, 32), (16, 32, 64), (10,), 268_336),
    "vit-tiny": ((3, 32, 32), (192, 12, 3, 4), (10,), 5_319_552),  # features, blocks, heads, patch
}
MEAN_STD = {1: ((0.1307,), (0.3081,)), 3: ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262))}


class UnavailableError(RuntimeError):
    """This variant does not run on this machine; the message says why."""


# How each peer is written. Without sort or kthvalue there is no mask, and the weights are trained.
VARIANTS = {
    "published": {"sort"},
    "kthvalue": {"kthvalue", "channels_last"},
    "compiled": {"kthvalue", "compile"},
    "tuned": {"kthvalue", "channels_last", "linear", "fused"},  # all that was found to help
    "dense": {"channels_last"},  # `kthvalue` less its mask: the difference is the mask's cost
}


class Select(torch.autograd.Function):
    """0/1 mask of the `kept` largest values: exactly so many by sort; by kthvalue also all ties at the threshold."""

    @staticmethod
    def forward(ctx, values: torch.Tensor, kept: int, by_sort: bool) -> torch.Tensor:
        pruned = values.numel() - kept
        if not by_sort:
            return (values >= values.flatten().kthvalue(pruned + 1).values).to(values.dtype)
        mask = torch.zeros(values.numel(), dtype=values.dtype, device=values.device)
        mask[values.flatten().sort().indices[pruned:]] = 1
        return mask.view(values.shape)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradient, None, None


class Masked(nn.Module):
    """A 'same' convolution with a kernel of odd `size`, or a linear layer where `size` is 0."""

    def __init__(
        self, inputs: int, outputs: int, size: int, variant: set[str], density: float, stride: int = 1
    ) -> None:
        super().__init__()
        self.stride = stride
        shape = (outputs, inputs, size, size) if size else (outputs, inputs)
        weight = torch.randn(shape).sign() * math.sqrt(2 / (inputs * max(size, 1) ** 2))
        self.size, self.kept, self.by_sort = size, max(1, round(density * weight.numel())), "sort" in variant
        self.masked = self.by_sort or "kthvalue" in variant
        self.weight = nn.Parameter(weight, requires_grad=not self.masked)
        if self.masked:
            self.scores = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(shape), a=math.sqrt(5)))

    def mask(self) -> torch.Tensor:
        # abs outside of the Function: autograd adds the sign of dL/ds = G * W * sign(s) by itself.
        return Select.apply(self.scores.abs(), self.kept, self.by_sort)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight * self.mask() if self.masked else self.weight
        if not self.size:
            return F.linear(x, weight)
        return F.conv2d(x, weight, padding=self.size // 2, stride=self.stride)


class Net(nn.Sequential):
    """Pairs of 3x3 convolutions, each pair with a 2x2 max pool, then linear layers; ReLU between all layers."""

    def __init__(self, net: str, variant: set[str], density: float) -> None:
        (channels, height, width), blocks, head, _ = NETS[net]
        linear, layers = "linear" in variant, []
        for out in blocks:
            for inputs in (channels, out):
                layers += [Masked(inputs, out, 3, variant, density), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
            channels, height, width = out, height // 2, width // 2
        inputs = channels * height * width
        layers += [nn.Flatten()] if linear else [nn.Flatten(), nn.Unflatten(1, (inputs, 1, 1))]
        for out in head:
            layers += [Masked(inputs, out, 0 if linear else 1, variant, density), nn.ReLU()]
            inputs = out
        super().__init__(*layers[:-1], nn.Flatten())


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, affine=False)


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm; the shortcut takes every other pixel and pads the channels with zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int, variant: set[str], density: float) -> None:
        super().__init__()
        self.conv1, self.norm1 = Masked(inputs, outputs, 3, variant, density, stride), _norm(outputs)
        self.conv2, self.norm2 = Masked(outputs, outputs, 3, variant, density), _norm(outputs)
        self.stride, self.pad = stride, (outputs - inputs) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y + x)


class ResNet20(nn.Sequential):
    """He et al. 2016, section 4.2, shortcuts of option A; batch norm without scale and offset, as mask searches do."""

    def __init__(self, net: str, variant: set[str], density: float) -> None:
        (channels, _, _), stages, (classes,), _ = NETS[net]
        inputs = stages[0]
        layers = [Masked(channels, inputs, 3, variant, density), _norm(inputs), nn.ReLU()]
        for outputs in stages:
            for _ in range(3):
                layers.append(Block(inputs, outputs, 1 if inputs == outputs else 2, variant, density))
                inputs = outputs
        linear = "linear" in variant
        pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if linear else [nn.AdaptiveAvgPool2d(1)]
        super().__init__(*layers, *pool, Masked(inputs, classes, 0 if linear else 1, variant, density), nn.Flatten())


class Vgg(nn.Sequential):
    """Simonyan & Zisserman 2015 for 32x32 images: 3x3 convolutions with batch norm, pools, one linear layer."""

    def __init__(self, net: str, variant: set[str], density: float) -> None:
        (inputs, _, _), plan, (classes,), _ = NETS[net]
        layers: list[nn.Module] = []
        for item in plan:
            if item == "P":
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [Masked(inputs, item, 3, variant, density), _norm(item), nn.ReLU()]
            inputs = item
        linear = "linear" in variant
        flat = [nn.Flatten()] if linear else []
        super().__init__(*layers, *flat, Masked(inputs, classes, 0 if linear else 1, variant, density), nn.Flatten())


class VitBlock(nn.Module):
    """Attention and two linear layers, each behind a layer norm without scale and offset."""

    def __init__(self, features: int, heads: int, variant: set[str], density: float) -> None:
        super().__init__()
        masked = lambda inputs, outputs: Masked(inputs, outputs, 0, variant, density)  # noqa: E731
        self.qkv, self.proj = masked(features, 3 * features), masked(features, features)
        self.fc1, self.fc2, self.heads = masked(features, 4 * features), masked(4 * features, features), heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, features = x.shape
        parts = self.qkv(F.layer_norm(x, (features,))).view(batch, length, 3, self.heads, -1)
        seen = F.scaled_dot_product_attention(*parts.permute(2, 0, 3, 1, 4))
        x = x + self.proj(seen.transpose(1, 2).reshape(x.shape))
        return x + self.fc2(F.gelu(self.fc1(F.layer_norm(x, (features,)))))


class Vit(nn.Module):
    """Dosovitskiy et al. 2021: class token and positions are frozen, every layer is a real linear one."""

    def __init__(self, net: str, variant: set[str], density: float) -> None:
        super().__init__()
        (channels, height, width), (features, depth, heads, patch), (classes,), _ = NETS[net]
        self.patch = patch
        self.embed = Masked(channels * patch**2, features, 0, variant, density)
        self.register_buffer("token", torch.randn(1, 1, features))
        self.register_buffer("places", torch.randn(1, height * width // patch**2 + 1, features))
        self.blocks = nn.Sequential(*[VitBlock(features, heads, variant, density) for _ in range(depth)])
        self.head = Masked(features, classes, 0, variant, density)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(F.unfold(x, self.patch, stride=self.patch).transpose(1, 2))
        x = self.blocks(torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places)
        return self.head(F.layer_norm(x[:, 0], x.shape[2:]))


def make_net(net: str, variant: set[str], density: float) -> nn.Module:
    return {"resnet20": ResNet20, "vgg11": Vgg, "vit-tiny": Vit}.get(net, Net)(net, variant, density)


class Images(Dataset):
    """uint8 images (n, height, width[, channels]), transformed one by one, as torchvision does it with tensors."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, augment: bool) -> None:
        images = np.require(images, np.uint8, "W")  # PyTorch warns about arrays that it could not write to
        self.images, self.labels, self.augment = images.reshape(*images.shape[:3], -1), labels, augment
        self.mean, self.std = (torch.tensor(v).view(-1, 1, 1) for v in MEAN_STD[self.images.shape[-1]])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = torch.from_numpy(self.images[index]).permute(2, 0, 1).contiguous()
        if self.augment:  # RandomCrop(size, padding=4), RandomHorizontalFlip()
            top, left = (int(torch.randint(9, (1,))) for _ in range(2))
            image = F.pad(image, (4, 4, 4, 4))[:, top : top + image.shape[1], left : left + image.shape[2]]
            image = image.flip(-1) if torch.rand(1) < 0.5 else image
        return image.float().div_(255).sub_(self.mean).div_(self.std), int(self.labels[index])


class ImagesByPillow(Images):
    """The same by way of Pillow, step by step as ToTensor and Normalize of torchvision take an image of open_lth."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        picture = np.array(Image.fromarray(self.images[index].squeeze()), np.uint8)
        image = torch.from_numpy(picture).view(self.images.shape[1:]).permute(2, 0, 1).contiguous().float().div(255)
        mean, std = (torch.as_tensor(v, dtype=image.dtype).view(-1, 1, 1) for v in MEAN_STD[len(image)])
        if (std == 0).any():
            raise ValueError("a standard deviation is 0")
        return image.clone().sub_(mean).div_(std), int(self.labels[index])


class Peer:
    """A net, its optimiser and its step; `compile_seconds` is what the very first step took, compilation included."""

    def __init__(self, net, variant, *, density=0.5, learning_rate=0.1, seed=0, device="cpu", threads=None, tf32=False):
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise UnavailableError("CUDA was asked for and PyTorch finds none")
        torch.set_num_threads(threads or os.cpu_count() or 1)
        # float32 means float32: unless told not to, PyTorch rounds the factors of a GPU's convolutions to 10 bits.
        torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, tf32
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.manual_seed(seed)
        self.shape, self.variant, self.device = NETS[net][0], VARIANTS[variant], torch.device(device)
        self.layout = torch.channels_last if "channels_last" in self.variant else torch.contiguous_format
        self.net = make_net(net, self.variant, density).to(self.device, memory_format=self.layout)
        self.compiled, self.compile_seconds, self.learning_rate = "compile" in self.variant, None, learning_rate
        # An error instead of a silent return to eager (fullgraph), and no slower kernels for any shape (dynamic).
        self.forward = torch.compile(self.net, fullgraph=True, dynamic=False) if self.compiled else self.net
        self.wait = torch.cuda.synchronize if self.device.type == "cuda" else lambda: None
        sgd = {"lr": learning_rate, "momentum": 0.9, "weight_decay": 1e-4, "fused": "fused" in self.variant or None}
        self.optimizer = torch.optim.SGD([p for p in self.net.parameters() if p.requires_grad], **sgd)

    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        start = time.perf_counter()
        x = x.to(self.device, memory_format=self.layout, non_blocking=True)
        self.optimizer.zero_grad()
        try:
            F.cross_entropy(self.forward(x), y.to(self.device, non_blocking=True)).backward()
        except Exception as error:
            if self.compiled and self.compile_seconds is None:
                raise UnavailableError(f"torch.compile: {' '.join(str(error).split())[:200]}") from error
            raise
        self.optimizer.step()
        if self.compile_seconds is None:
            self.wait()
            self.compile_seconds = time.perf_counter() - start

    def loader(self, images, labels, augment: bool, batch: int, workers: int) -> DataLoader:
        # A compiled step is spared the smaller last batch: it would compile once more for it.
        data, pin, drop = Images(images, labels, augment), self.device.type == "cuda", self.compiled
        return DataLoader(data, batch, shuffle=True, num_workers=workers, pin_memory=pin, drop_last=drop)


def step_rate(net, variant, batch=128, steps=5, warmup=2, *, inner=None, peer=None, **setup) -> list[float]:
    """Images per second, `steps` times, without a data pipeline; of `peer`, or of a new one made with `setup`."""
    peer = peer or Peer(net, variant, **setup)
    inner = inner or (20 if peer.device.type == "cuda" else 1)  # steps to a measurement: a GPU should never run dry
    x = torch.randn(batch, *peer.shape, device=peer.device).to(memory_format=peer.layout)
    y, rates = torch.randint(10, (batch,), device=peer.device), []
    for _ in range(warmup + steps):
        start = time.perf_counter()
        for _ in range(inner):
            peer.step(x, y)
        peer.wait()
        rates.append(inner * batch / (time.perf_counter() - start))
    return rates[warmup:]


def epoch_rate(net, variant, images, labels, augment, max_batches=None, *, batch=128, workers=0, peer=None, **setup):
    """Images per second of an epoch over uint8 images, cut to `max_batches`: start of workers, transforms, steps."""
    peer, limit = peer or Peer(net, variant, **setup), batch * (max_batches or len(labels))
    step_rate(net, variant, batch, steps=0, peer=peer)
    start, seen = time.perf_counter(), 0
    for x, y in peer.loader(images[:limit], labels[:limit], augment, batch, workers):
        peer.step(x, y)
        seen += len(y)
    peer.wait()
    return seen / (time.perf_counter() - start)


def train(net, variant, training, test, augment, epochs, *, batch=128, workers=0, **setup) -> dict[str, float]:
    """Test accuracy after `epochs`; `training`, `test`: (images, labels). The rate falls by a cosine per epoch.

    `running` is that by the running statistics of batch norm, as such scripts have it; `anew` that by the statistics of
    20 batches under the last mask, the same if there is no batch norm.
    """
    peer = Peer(net, variant, **setup)
    loader = peer.loader(*training, augment, batch, workers)
    for epoch in range(epochs):
        peer.optimizer.param_groups[0]["lr"] = peer.learning_rate * (1 + math.cos(math.pi * epoch / epochs)) / 2
        for x, y in loader:
            peer.step(x, y)
    found = {"running": _accuracy(peer, test)}
    for norm in (module for module in peer.net.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.reset_running_stats()
        norm.momentum = None  # the mean over the batches
    peer.net.train()
    with torch.no_grad():
        for x, _ in itertools.islice(loader, 20):
            peer.net(x.to(peer.device, memory_format=peer.layout))
    return found | {"anew": _accuracy(peer, test)}


def _accuracy(peer: Peer, test) -> float:
    peer.net.eval()
    correct = 0
    with torch.no_grad():
        for x, y in DataLoader(Images(*test, augment=False), 500):
            correct += int((peer.net(x.to(peer.device, memory_format=peer.layout)).argmax(1).cpu() == y).sum())
    return correct / len(test[1])


def lottery_rounds(images, labels, test_images, test_labels, *, epochs: int, rounds: int, pillow: bool) -> list[float]:
    """Seconds of each round of iterative pruning of LeNet-300-100 after the dense training; see `lottery.py`.

    Written anew from the rule of Frankle's open_lth: before each forward pass the weights are multiplied by the mask.
    Of the sorted magnitudes that are left, the one at 20 % is the threshold, and what is above it stays. With `pillow`
    each image is decoded as there, else without Pillow, which is faster.
    """
    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    layers = [nn.Linear(784, 300), nn.Linear(300, 100), nn.Linear(100, 10)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    net = nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    start = {name: value.clone() for name, value in net.state_dict().items()}
    masks = {layer: torch.ones_like(layer.weight) for layer in layers[:2]}
    kind = ImagesByPillow if pillow else Images
    loader = DataLoader(kind(images, labels, augment=False), 128, shuffle=True)
    test, seconds = DataLoader(kind(test_images, test_labels, augment=False), 500), []
    for number in range(rounds + 1):
        began = time.perf_counter()
        if number:
            alive = torch.cat([layer.weight.detach()[mask == 1].abs() for layer, mask in masks.items()])
            threshold = alive.sort().values[math.ceil(0.2 * len(alive))]
            masks = {layer: mask * (layer.weight.detach().abs() > threshold) for layer, mask in masks.items()}
        net.load_state_dict(start)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(epochs):
            for x, y in loader:
                _masked(masks)
                optimizer.zero_grad()
                F.cross_entropy(net(x), y).backward()
                optimizer.step()
        _masked(masks)
        with torch.no_grad():
            right = sum(int((net(x).argmax(1) == y).sum()) for x, y in test)
        assert right > 0.5 * len(test_labels), "it did not learn"
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def _masked(masks: dict[nn.Linear, torch.Tensor]) -> None:
    for layer, mask in masks.items():
        layer.weight.data.mul_(mask)


def self_test() -> None:
    """Count of kept weights and gradient of the scores on small layers; size and frozen weights of every net."""
    for variant, size, density in (("sort", 3, 0.5), ("sort", 0, 0.07), ("kthvalue", 1, 0.3), ("kthvalue", 0, 1.0)):
        layer, x = Masked(7, 5, size, {variant}, density), torch.randn((4, 7, 6, 6) if size else (4, 7))
        assert int(layer.mask().sum()) == layer.kept == round(density * layer.weight.numel())
        effective = (layer.weight * layer.mask()).detach().requires_grad_()
        plain = F.conv2d(x, effective, padding=size // 2) if size else F.linear(x, effective)
        (plain.square().sum() + layer(x).square().sum()).backward()
        torch.testing.assert_close(layer.scores.grad, effective.grad * layer.weight * layer.scores.sign())
    assert int(Select.apply(torch.ones(10), 3, True).sum()) == 3, "ties must not change the count of a sort"
    for net, (shape, _, _, total) in NETS.items():
        peer, tuned, x = Peer(net, "kthvalue"), Peer(net, "tuned"), torch.randn(2, *shape)
        frozen = [(p, p.clone()) for p in peer.net.parameters() if not p.requires_grad]
        assert sum(w.numel() for w, _ in frozen) == total
        torch.testing.assert_close(peer.net(x), tuned.net(x), rtol=1e-4, atol=1e-4)  # one seed, one net
        peer.step(x, torch.tensor([0, 1]))
        assert all(torch.equal(now, before) for now, before in frozen)


def main() -> None:
    parser = argparse.ArgumentParser(description="Steps of one PyTorch peer; prints one JSON line.")
    parser.add_argument("--net", choices=NETS, default="conv4")
    parser.add_argument("--variant", choices=VARIANTS, default="published")
    for name, default in {"steps": 5, "warmup": 2, "batch": 128, "threads": os.cpu_count(), "device": "cpu"}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument(
        "--epoch", type=int, metavar="BATCHES", help="so much of an epoch with its data, not bare steps"
    )
    parser.add_argument("--self-test", action="store_true", help="check masks and gradients, measure nothing")
    args = vars(parser.parse_args())
    if args.pop("self_test"):
        return self_test()
    row = {"torch": torch.__version__} | args
    try:
        peer = Peer(args["net"], args["variant"], device=args["device"], threads=args["threads"])
        if args["epoch"]:
            shape = (*peer.shape[1:], peer.shape[0])
            images = np.random.default_rng(0).integers(0, 256, (args["epoch"] * args["batch"], *shape), dtype=np.uint8)
            augment, labels = shape[-1] == 3, np.arange(len(images)) % 10
            rates = [epoch_rate(args["net"], args["variant"], images, labels, augment, batch=args["batch"], peer=peer)]
        else:
            rates = step_rate(args["net"], args["variant"], args["batch"], args["steps"], args["warmup"], peer=peer)
        row |= {"median": float(np.median(rates)), "min": min(rates), "max": max(rates), "images_per_second": rates}
        row["compile_seconds"] = peer.compile_seconds
    except UnavailableError as error:
        row["unavailable"] = str(error)
    print(json.dumps(row))


if __name__ == "__main__":
    main()
