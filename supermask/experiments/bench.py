"""How fast this machine searches: steps on random images, beside its rate of plain matrix products."""

from __future__ import annotations

import math
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from supermask import core
from supermask.config import SearchConfig
from supermask.engine.problem import Parts, assemble, resolve
from supermask.engine.programs import Programs, side_by_side
from supermask.engine.sharding import Layout
from supermask.errors import UsageError
from supermask.nn.precision import TYPES
from supermask.types import Dataset, Split

SECONDS_PER_ROUND = 2.0
_IMAGES = 6000


@dataclass(frozen=True)
class Bench:
    """Steady steps of a search, without compilation; medians of the rounds.

    Attributes:
        images_per_second: of all seeds side by side, data and augmentation included.
        spread: (lowest, highest) images per second of a round.
        ms_per_step: time of one step of all seeds side by side.
        gflop_per_image: of the direct algorithm: forward, gradient of activations and of weights (10^9 operations).
        matmul_gflops: measured rate of one large matrix product on each device at this precision, summed.
        matmul_share: images_per_second * gflop_per_image / matmul_gflops; above 1 if convolutions take fewer
            operations than the direct ones.
        peak_memory_bytes: of the process on a CPU, of the devices' memory on a GPU.
    """

    images_per_second: float
    spread: tuple[float, float]
    ms_per_step: float
    compile_seconds: float
    gflop_per_image: float
    matmul_gflops: float
    matmul_share: float
    peak_memory_bytes: int
    batch_size: int
    devices: int
    seeds: int
    micro_batch: int
    device: str
    rounds: int


def bench(
    config: SearchConfig, *, shape: tuple[int, int, int] = (32, 32, 3), classes: int = 10, rounds: int = 5
) -> Bench:
    """Measure the steps of a search of `config` on random images of `shape` (height, width, channels).

    Raises:
        UsageError: a name or a number of the config is wrong, or the method is not trained.
    """
    parts = assemble(resolve(config.replace(epochs=1)), random_images(shape, classes))
    if not parts.method.learned:
        raise UsageError(f"{config.method} is not trained, so there are no steps to measure")
    programs = Programs(parts, side_by_side(parts))
    seeds = range(programs.layout.seeds)
    state = programs.begin(seeds, [parts.weights(seed) for seed in seeds])
    programs.begin_epoch(state, 1)
    programs.advance(state, 0, 1)
    _, second = programs.advance(state, 0, 1)
    steps = max(1, int(SECONDS_PER_ROUND / second))
    images = steps * parts.batch_size * len(seeds)
    rates = [images / programs.advance(state, 0, steps)[1] for _ in range(rounds)]
    rate, work = statistics.median(rates), _gflop_per_image(parts)
    matmul = matmul_rate(parts.config.precision, programs.layout)
    share = parts.batch_size // parts.layout.shares
    return Bench(
        images_per_second=rate,
        spread=(min(rates), max(rates)),
        ms_per_step=1e3 * parts.batch_size * len(seeds) / rate,
        compile_seconds=programs.compile_seconds,
        gflop_per_image=work,
        matmul_gflops=matmul,
        matmul_share=rate * work / matmul,
        peak_memory_bytes=_peak_memory(programs.layout),
        batch_size=parts.batch_size,
        devices=programs.layout.devices,
        seeds=len(seeds),
        micro_batch=share // parts.pieces,
        device=jax.devices()[0].device_kind,
        rounds=rounds,
    )


def random_images(shape: tuple[int, int, int], classes: int = 10) -> Dataset:
    """6,000 images of `shape` (height, width, channels), the same ones in every split."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (_IMAGES, *shape), dtype=np.uint8)
    split = Split(images, random.integers(0, classes, _IMAGES).astype(np.int32))
    half = (0.5,) * shape[-1]
    return Dataset(split, split, tuple(map(str, range(classes))), half, half, validation=split)


def _gflop_per_image(parts: Parts) -> float:
    """What XLA counts in loss and gradient with its own convolutions, before it optimises anything."""
    plain = parts.config.replace(conv="xla", micro_batch=None, precision="f32")
    model, shape = assemble(plain, parts.dataset).model, parts.dataset.train.images.shape[1:]
    struct = lambda shapes: {name: jax.ShapeDtypeStruct(s, jnp.float32) for name, s in shapes.items()}  # noqa: E731
    count = parts.batch_size
    x, y = jax.ShapeDtypeStruct((count, *shape), jnp.float32), jax.ShapeDtypeStruct((count,), jnp.int32)
    lowered = jax.jit(partial(core.gradient, model)).lower(struct(model.weights), struct(model.stats), x, y)
    counted: Any = lowered.cost_analysis()
    return float(counted["flops"]) / count / 1e9


def matmul_rate(precision: str, layout: Layout, repeats: int = 5) -> float:
    """10^9 operations a second of large square matrix products, one on each device at once."""
    size = 1024 if jax.default_backend() == "cpu" else 8192
    dtype, products = TYPES[precision]
    a = layout.everywhere(np.ones((size, size), dtype))
    with jax.default_matmul_precision(products):
        multiply = jax.jit(layout.program(lambda a: a @ a, (False,)))
        multiply(a).block_until_ready()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        multiply(a).block_until_ready()
        times.append(time.perf_counter() - began)
    return layout.devices * 2 * math.pow(size, 3) / statistics.median(times) / 1e9


def _peak_memory(layout: Layout) -> int:
    statistics_of = [device.memory_stats() for device in layout.mesh.devices.flat]
    if all(statistics_of):
        return sum(int(found["peak_bytes_in_use"]) for found in statistics_of)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
