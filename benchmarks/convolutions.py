"""Single convolutions, output and both gradients: ours beside XLA's own and, if it is installed, PyTorch's.

    python benchmarks/convolutions.py --rounds 5

Ours runs as in a search: each core is a device, the devices share the batch, and each takes its part in
micro-batches that stay in the cache, inside a loop. PyTorch runs in both of its memory formats.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from facts import facts
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from supermask.nn.conv import convolution

BATCH, MICRO = 128, 8
# Name -> image size, channels, kernel size, stride, groups.
LAYERS = {
    "dense 3x3": (16, 64, 3, 1, 1),
    "dense 1x1": (16, 64, 1, 1, 1),
    "dense 3x3, stride 2": (16, 64, 3, 2, 1),
    "depthwise 3x3": (16, 64, 3, 1, 64),
    "depthwise 7x7": (16, 64, 7, 1, 64),
    "grouped 3x3, 4 groups": (16, 64, 3, 1, 4),
}
NUMBERS = ("NHWC", "HWIO", "NHWC")


def ours(mode: str, layer: tuple[int, ...]) -> Callable[[], Any]:
    """A function that computes output and gradients of a batch, compiled."""
    size, channels, kernel, stride, groups = layer
    convolve = convolution(mode)

    def loss(x: jax.Array, k: jax.Array) -> jax.Array:
        out = convolve(x, k, (stride, stride), "SAME", dimension_numbers=NUMBERS, feature_group_count=groups)
        return (out * out).sum()

    def step(x: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
        def add(total: jax.Array, part: jax.Array) -> tuple[jax.Array, jax.Array]:
            slope_x, slope_k = jax.grad(loss, (0, 1))(part, k)
            return total + slope_k, slope_x

        total, slopes = lax.scan(add, jnp.zeros_like(k), x.reshape(-1, MICRO, *x.shape[1:]))
        return lax.psum(total, "batch"), slopes.reshape(x.shape)

    mesh = Mesh(np.array(jax.devices()), ("batch",))
    spread, whole = PartitionSpec("batch"), PartitionSpec()
    shared = jax.shard_map(step, mesh=mesh, in_specs=(spread, whole), out_specs=(whole, spread), check_vma=False)
    x, k = arrays(size, channels, kernel, groups)
    x, k = jax.device_put(x, NamedSharding(mesh, spread)), jax.device_put(k, NamedSharding(mesh, whole))
    run = jax.jit(shared).lower(x, k).compile()
    return lambda: jax.block_until_ready(run(x, k))


def arrays(size: int, channels: int, kernel: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.normal(size=(BATCH, size, size, channels)).astype(np.float32)
    return x, random.normal(size=(kernel, kernel, channels // groups, channels)).astype(np.float32)


def torchs(channels_last: bool, layer: tuple[int, ...]) -> Callable[[], Any]:
    """The same in PyTorch."""
    import torch

    size, channels, kernel, stride, groups = layer
    x, k = (torch.from_numpy(a) for a in arrays(size, channels, kernel, groups))
    memory = torch.channels_last if channels_last else torch.contiguous_format
    x = x.permute(0, 3, 1, 2).contiguous(memory_format=memory).requires_grad_()
    k = k.permute(3, 2, 0, 1).contiguous(memory_format=memory).requires_grad_()

    def run() -> None:
        x.grad = k.grad = None
        out = torch.nn.functional.conv2d(x, k, stride=stride, padding=kernel // 2, groups=groups)
        (out * out).sum().backward()

    return run


def milliseconds(run: Callable[[], Any]) -> float:
    run()  # PyTorch's threads wait in a busy loop for a while, so this call is not timed
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--xla", action="store_true", help="also time XLA's own convolutions, which are slow in a loop")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    rows = {}
    for name, layer in LAYERS.items():
        runs = {"ours": ours("auto", layer)}
        if arguments.xla:
            runs["xla"] = ours("xla", layer)
        if find_spec("torch"):
            runs |= {"torch": torchs(False, layer), "torch channels_last": torchs(True, layer)}
        for run in runs.values():
            run()  # warm
        times: dict[str, list[float]] = {key: [] for key in runs}
        for _ in range(arguments.rounds):  # in turn, so that all see the same machine
            for key, run in runs.items():
                times[key].append(milliseconds(run))
        rows[name] = {key: round(statistics.median(found), 1) for key, found in times.items()}
        print(f"{name:24}", "  ".join(f"{key} {value:8.1f} ms" for key, value in rows[name].items()), flush=True)
    print(json.dumps({"batch": BATCH, "rounds": arguments.rounds, "milliseconds": rows, **facts()}))


if __name__ == "__main__":
    main()
