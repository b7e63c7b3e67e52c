"""Measures how fast this machine searches, on random images, and compares it with its rate of plain matrix products."""

from __future__ import annotations

import math
import resource
import statistics
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from supermask.config import SearchConfig
from supermask.config.words import RANDOM_CROPS
from supermask.core import Parametrization, Step, mask_search, weight_training
from supermask.engine.problem import Problem, build, on_this_machine
from supermask.engine.programs import Start
from supermask.engine.saliency import first_scores
from supermask.engine.sharding import Sharding
from supermask.engine.trainer import Trainer
from supermask.errors import UsageError
from supermask.nn.precision import TYPES
from supermask.resolve import resolve
from supermask.runtime.numerics import fixed_numerics
from supermask.types import Dataset, Split, Tree

SECONDS_PER_ROUND = 2.0
_IMAGES = 6000


@dataclass(frozen=True)
class Bench:
    """The speed of a search in steady state, without compilation; medians over the rounds.

    Attributes:
        images_per_second: total of all seeds side by side, including data and augmentation.
        spread: (lowest, highest) images per second of a round.
        ms_per_step: time of one step of all seeds side by side.
        gflop_per_image: operations of the direct algorithm for the forward pass and the gradients of activations and
            weights (10^9 operations).
        matmul_gflops: measured rate of one large matrix product on each device at this precision, summed over devices.
        matmul_share: images_per_second * gflop_per_image / matmul_gflops; above 1 if our convolutions take fewer
            operations than direct ones.
        peak_memory_bytes: memory of the process on a CPU, of the devices on a GPU.
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


@fixed_numerics()
def bench(
    config: SearchConfig, *, shape: tuple[int, int, int] = (32, 32, 3), classes: int = 10, rounds: int = 5
) -> Bench:
    """Measure the steps of a search of `config` on random images of `shape` (height, width, channels).

    Raises:
        UsageError: a name or a number of the config is wrong, or the method is not trained.
    """
    if config.augment == RANDOM_CROPS:
        raise UsageError(f"{RANDOM_CROPS} is made on the host, and steps on resident images are measured: leave it out")
    problem = build(on_this_machine(resolve(config.replace(epochs=1))), random_images(shape, classes))
    assert problem.method is not None
    assert problem.searcher is not None
    if not problem.method.learned:
        raise UsageError(f"{config.method} is not trained, so there are no steps to measure")
    run = SteadySteps(problem, mask_search(problem.searcher))
    run.seconds(1)
    steps = max(1, int(SECONDS_PER_ROUND / run.seconds(1)))
    size, seeds, sharding = problem.pipeline.batch_size, run.sharding.seeds, run.sharding
    rates = [steps * size * seeds / run.seconds(steps) for _ in range(rounds)]
    rate, work = statistics.median(rates), _gflop_per_image(problem)
    matmul = matmul_rate(problem.config.precision, sharding)
    return Bench(
        images_per_second=rate,
        spread=(min(rates), max(rates)),
        ms_per_step=1e3 * size * seeds / rate,
        compile_seconds=run.trainer.steps.compile_seconds,
        gflop_per_image=work,
        matmul_gflops=matmul,
        matmul_share=rate * work / matmul,
        peak_memory_bytes=peak_memory(sharding),
        batch_size=size,
        devices=sharding.devices,
        seeds=seeds,
        micro_batch=size // sharding.num_shards // problem.batching.num_microbatches,
        device=jax.devices()[0].device_kind,
        rounds=rounds,
    )


class SteadySteps:
    """Runs the first steps of an epoch over and over, for seeds side by side, with resident data."""

    def __init__(self, problem: Problem, parametrization: Parametrization, seeds: int | None = None) -> None:
        problem = replace(problem, streaming=None)
        self.sharding = problem.side_by_side(seeds)
        self.trainer = Trainer(problem, parametrization, self.sharding)
        weights = [problem.weights(seed) for seed in range(self.sharding.seeds)]
        if parametrization is weight_training:
            begun: list[tuple[Tree, Start]] = [({}, (tree, {})) for tree in weights]
        else:
            scores = first_scores(problem)
            begun = [(tree, scores(seed, tree)) for seed, tree in enumerate(weights)]
        self._frozen = self.trainer.place([frozen for frozen, _ in begun])
        self.state = self.trainer.init(range(self.sharding.seeds), [start for _, start in begun])
        self._epoch = 0
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Shuffle the images again."""
        self._epoch += 1
        self._chunk = next(self.trainer.steps.feed.chunks(self.state.order_key, self._epoch, 0))

    def seconds(self, steps: int, first: int = 0) -> float:
        """Run steps first..first+steps-1 of the epoch; return the seconds it took, without compiling."""
        return self.trainer.steps.advance(self.state, self._frozen, self._chunk, first, first + steps)


def random_images(shape: tuple[int, int, int], classes: int = 10) -> Dataset:
    """Make 6,000 random images of `shape` (height, width, channels), the same ones in every split."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (_IMAGES, *shape), dtype=np.uint8)
    split = Split(images, random.integers(0, classes, _IMAGES).astype(np.int32))
    half = (0.5,) * shape[-1]
    return Dataset(split, split, tuple(map(str, range(classes))), half, half, validation=split)


def _gflop_per_image(problem: Problem) -> float:
    """Return the operations that XLA counts in loss and gradient, with its own convolutions and before optimising."""
    plain = problem.config.replace(conv="xla", micro_batch=None, precision="f32")
    model, shape = build(plain, problem.dataset).model, problem.dataset.train.inputs.shape[1:]
    struct = lambda shapes: {name: jax.ShapeDtypeStruct(s, jnp.float32) for name, s in shapes.items()}  # noqa: E731
    count = problem.pipeline.batch_size
    batch = (jax.ShapeDtypeStruct((count, *shape), jnp.float32), jax.ShapeDtypeStruct((count,), jnp.int32))
    step = Step(weight_training, model, problem.task, problem.optimizer)
    gradient = jax.jit(lambda weights, state, batch: step.gradient(weights, state, batch, jax.random.key(0)))
    counted: Any = gradient.lower(struct(model.weights), struct(model.state), batch).cost_analysis()
    return float(counted["flops"]) / count / 1e9


def matmul_rate(precision: str, sharding: Sharding, repeats: int = 5) -> float:
    """Measure 10^9 operations per second of large square matrix products, one on each device at the same time."""
    size = 1024 if jax.default_backend() == "cpu" else 8192
    dtype, products = TYPES[precision]
    a = sharding.replicate(np.ones((size, size), dtype))
    with jax.default_matmul_precision(products):
        multiply = jax.jit(sharding.program(lambda a: a @ a, own=0))
        multiply(a).block_until_ready()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        multiply(a).block_until_ready()
        times.append(time.perf_counter() - began)
    return sharding.devices * 2 * math.pow(size, 3) / statistics.median(times) / 1e9


def peak_memory(sharding: Sharding) -> int:
    """Bytes, of the process on a CPU, of the devices on a GPU."""
    statistics_of = [device.memory_stats() for device in sharding.mesh.devices.flat]
    if all(statistics_of):
        return sum(int(found["peak_bytes_in_use"]) for found in statistics_of)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
