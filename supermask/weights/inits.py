"""Frozen weights from (init, seed, shapes): the same bits on every machine with IEEE floats, for ever.

Each parameter has a Philox stream of its own, keyed by (seed, name), so a layer's weights depend on neither
the other layers nor their order. Only raw bits are taken from NumPy: the streams of its distributions may
change. Normals come from the inverse normal CDF with +, -, x, /, square root and frexp alone, which IEEE 754
rounds correctly everywhere, unlike a C library's log or cos.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np

from supermask.config import Config, SearchConfig
from supermask.types import Shapes, Tree
from supermask.weights.normal import normal_quantile
from supermask.weights.shapes import fans

Draw = Callable[[np.random.Philox, tuple[int, ...]], np.ndarray]


def draw(init: str, seed: int, shapes: Shapes, density: float = 1.0) -> Tree:
    """Weights for all parameters, float32.

    Parameters of two dimensions and more are drawn from `init`; smaller ones are not random: `scale` is 1
    and everything else, such as a bias, is 0.

    Args:
        init: a name in INITS.
        seed: any int from 0.
        shapes: parameter path -> shape; kernels are (..., fan-in channels, out).
        density: the standard deviation is divided by its square root, so that a unit which keeps this
            fraction of its inputs sees the intended variance (Ramanujan et al. 2020, "scaled").
    """
    weights = {}
    for name, shape in shapes.items():
        if len(shape) < 2:
            weights[name] = np.full(shape, float(name.rsplit("/", 1)[-1] == "scale"), np.float32)
            continue
        stream = np.random.Philox(key=int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16], "little"))
        weights[name] = (INITS[init](stream, shape) / math.sqrt(density)).astype(np.float32)
    return weights


def of_config(config: Config, seed: int, shapes: Shapes) -> Tree:
    """The frozen weights of a resolved config, of a seed of its own."""
    density = config.density if isinstance(config, SearchConfig) and config.scale_by_density else 1.0
    return draw(str(config.init), seed, shapes, density)


def kaiming_normal(stream: np.random.Philox, shape: tuple[int, ...]) -> np.ndarray:
    """Normal, variance 2 / fan-in (He et al. 2015)."""
    return normal_quantile(_uniform(stream, shape)) * math.sqrt(2 / fans(shape)[0])


def kaiming_uniform(stream: np.random.Philox, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform on +-sqrt(6 / fan-in), variance 2 / fan-in (He et al. 2015)."""
    return (2 * _uniform(stream, shape) - 1) * math.sqrt(6 / fans(shape)[0])


def signed_constant(stream: np.random.Philox, shape: tuple[int, ...]) -> np.ndarray:
    """A random sign times sqrt(2 / fan-in) (Ramanujan et al. 2020)."""
    size = math.prod(shape)
    words = stream.random_raw(-(-size // 64)).astype("<u8")
    bits = np.unpackbits(words.view(np.uint8), count=size, bitorder="little").reshape(shape)
    return (2.0 * bits - 1) * math.sqrt(2 / fans(shape)[0])


def glorot_normal(stream: np.random.Philox, shape: tuple[int, ...]) -> np.ndarray:
    """Normal cut at two standard deviations, variance 2 / (fan-in + fan-out) (Glorot & Bengio 2010; Keras)."""
    tail = 0.022750131948179207  # the normal CDF at -2
    cut = normal_quantile(tail + (1 - 2 * tail) * _uniform(stream, shape))
    return cut * (math.sqrt(2 / sum(fans(shape))) / 0.87962566103423978)  # the cut normal's own deviation


def signed_constant_elu(stream: np.random.Philox, shape: tuple[int, ...]) -> np.ndarray:
    """A random sign times sqrt(3 / fan-in), for ELU (Koster et al. 2022)."""
    return signed_constant(stream, shape) * math.sqrt(1.5)


def signed_constant_e(stream: np.random.Philox, shape: tuple[int, ...]) -> np.ndarray:
    """A random sign times e * sqrt(1 / fan-in) (Isik et al. 2023)."""
    return signed_constant(stream, shape) * (2.718281828459045 * math.sqrt(0.5))


def signed_constant_std(stream: np.random.Philox, shape: tuple[int, ...]) -> np.ndarray:
    """The signs of `glorot-normal` times the standard deviation that its draw has in this layer (Zhou et al. 2019)."""
    drawn = glorot_normal(stream, shape)
    # Sums that are rounded once are the same on every machine, however it adds.
    mean = math.fsum(drawn.ravel()) / drawn.size
    return np.sign(drawn) * math.sqrt(math.fsum(((drawn - mean) ** 2).ravel()) / drawn.size)


def uniform_glorot(stream: np.random.Philox, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform on +-sqrt(2 / (fan-in + fan-out)), the deviation of Glorot & Bengio (Aladago & Torresani 2021)."""
    return (2 * _uniform(stream, shape) - 1) * math.sqrt(2 / sum(fans(shape)))


INITS: dict[str, Draw] = {
    "kaiming-normal": kaiming_normal,
    "kaiming-uniform": kaiming_uniform,
    "signed-constant": signed_constant,
    "signed-constant-elu": signed_constant_elu,
    "signed-constant-e": signed_constant_e,
    "signed-constant-std": signed_constant_std,
    "uniform-glorot": uniform_glorot,
    "glorot-normal": glorot_normal,
}


def _uniform(stream: np.random.Philox, shape: tuple[int, ...]) -> np.ndarray:
    """Multiples of 2^-53 plus a half step, so that 0 and 1 are never drawn."""
    raw = stream.random_raw(math.prod(shape)).reshape(shape)
    return ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
