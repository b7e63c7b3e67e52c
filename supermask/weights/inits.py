"""Frozen weights from (init, seed, shapes): the same bits on every machine with IEEE 754 floats, for ever.

Each parameter has its own Philox stream, keyed by (seed, name), so the weights of a layer depend neither on the other
layers nor on their order. Only raw bits come from NumPy, because the streams of its distributions may change. Normal
values are made by the inverse normal CDF, computed from +, -, x, /, square root and frexp alone: IEEE 754 rounds these
correctly everywhere, whereas the log or cos of a C library differs between machines.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from supermask.config import Config, SearchConfig
from supermask.types import Shapes, Tree
from supermask.weights.normal import normal_quantile
from supermask.weights.parameters import Parameters, as_parameters, default_value
from supermask.weights.streams import stream

Fans = tuple[float, float]
Draw = Callable[[np.random.Philox, tuple[int, ...], Fans], np.ndarray]


def draw(
    init: str,
    seed: int,
    parameters: Parameters | Shapes,
    density: float = 1.0,
    own: Tree | None = None,
) -> Tree:
    """Draw the weights of all parameters, as float32 arrays.

    Kernels, and whatever else is masked, are drawn from `init`. The others have their own values, or else `scale` is 1,
    and everything else, such as a bias, is 0.

    Args:
        init: a name in INITS.
        seed: any int of at least 0.
        parameters: by path; shapes stand for kernels (..., in, out) if they have two or more dimensions.
        own: values of parameters that are not drawn, or that were trained.
        density: weights are divided by its square root, so that a unit that keeps this fraction of its inputs sees the
            intended variance (Ramanujan et al. 2020, "scaled"). 1 leaves them alone. The code of edge-popup, and others
            after it, divides by the square root of the share that is removed, which is not what the paper says.
    """
    weights = {}
    for name, found in as_parameters(parameters).items():
        if own and name in own:
            weights[name] = own[name]
            continue
        if not found.drawn:
            weights[name] = np.full(found.shape, default_value(name), np.float32)
            continue
        weights[name] = (INITS[init](stream(seed, name), found.shape, found.fans) / math.sqrt(density)).astype(
            np.float32
        )
    return weights


def of_config(config: Config, seed: int, parameters: Parameters | Shapes, own: Tree | None = None) -> Tree:
    """Draw the random weights of a resolved config, for `seed` instead of the seed in the config; see `draw`."""
    density = config.density if isinstance(config, SearchConfig) and config.scale_by_density else 1.0
    return draw(str(config.init), seed, parameters, density, own)


def kaiming_normal(stream: np.random.Philox, shape: tuple[int, ...], fans: Fans) -> np.ndarray:
    """Normal, variance 2 / fan-in (He et al. 2015)."""
    return normal_quantile(_uniform(stream, shape)) * math.sqrt(2 / fans[0])


def kaiming_uniform(stream: np.random.Philox, shape: tuple[int, ...], fans: Fans) -> np.ndarray:
    """Uniform on +-sqrt(6 / fan-in), so variance 2 / fan-in (He et al. 2015)."""
    return (2 * _uniform(stream, shape) - 1) * math.sqrt(6 / fans[0])


def signed_constant(stream: np.random.Philox, shape: tuple[int, ...], fans: Fans) -> np.ndarray:
    """A random sign times sqrt(2 / fan-in) (Ramanujan et al. 2020)."""
    size = math.prod(shape)
    words = stream.random_raw(-(-size // 64)).astype("<u8")
    bits = np.unpackbits(words.view(np.uint8), count=size, bitorder="little").reshape(shape)
    return (2.0 * bits - 1) * math.sqrt(2 / fans[0])


def glorot_normal(stream: np.random.Philox, shape: tuple[int, ...], fans: Fans) -> np.ndarray:
    """Normal truncated at two standard deviations, variance 2 / (fan-in + fan-out) (Glorot & Bengio 2010; Keras)."""
    tail = 0.022750131948179207  # the normal CDF at -2
    truncated = normal_quantile(tail + (1 - 2 * tail) * _uniform(stream, shape))
    # The divisor is the standard deviation of the truncated standard normal.
    return truncated * (math.sqrt(2 / sum(fans)) / 0.87962566103423978)


def signed_constant_elu(stream: np.random.Philox, shape: tuple[int, ...], fans: Fans) -> np.ndarray:
    """A random sign times sqrt(3 / fan-in), for ELU (Koster et al. 2022)."""
    return signed_constant(stream, shape, fans) * math.sqrt(1.5)


def signed_constant_2020(stream: np.random.Philox, shape: tuple[int, ...], fans: Fans) -> np.ndarray:
    """A random sign times sqrt(6 / fan-in) (Koster et al. 2022, their code of December 2020)."""
    return signed_constant(stream, shape, fans) * math.sqrt(3)


def signed_constant_e(stream: np.random.Philox, shape: tuple[int, ...], fans: Fans) -> np.ndarray:
    """A random sign times e * sqrt(1 / fan-in) (Isik et al. 2023)."""
    return signed_constant(stream, shape, fans) * (2.718281828459045 * math.sqrt(0.5))


def signed_constant_std(stream: np.random.Philox, shape: tuple[int, ...], fans: Fans) -> np.ndarray:
    """The signs of a `glorot-normal` draw times the standard deviation of that draw (Zhou et al. 2019)."""
    drawn = glorot_normal(stream, shape, fans)
    # fsum rounds once, at the end, so the sum does not depend on the order in which a machine adds.
    mean = math.fsum(drawn.ravel()) / drawn.size
    return np.sign(drawn) * math.sqrt(math.fsum(((drawn - mean) ** 2).ravel()) / drawn.size)


def glorot_uniform(stream: np.random.Philox, shape: tuple[int, ...], fans: Fans) -> np.ndarray:
    """Uniform on +-sqrt(6 / (fan-in + fan-out)), so variance 2 / (fan-in + fan-out) (Glorot & Bengio 2010)."""
    return (2 * _uniform(stream, shape) - 1) * math.sqrt(6 / sum(fans))


def uniform_glorot(stream: np.random.Philox, shape: tuple[int, ...], fans: Fans) -> np.ndarray:
    """Uniform on +-s, where s = sqrt(2 / (fan-in + fan-out)) is the deviation of Glorot & Bengio 2010.

    Source: Aladago & Torresani 2021, as the text was understood here; their code has `glorot_uniform`.
    """
    return (2 * _uniform(stream, shape) - 1) * math.sqrt(2 / sum(fans))


INITS: dict[str, Draw] = {
    "kaiming-normal": kaiming_normal,
    "kaiming-uniform": kaiming_uniform,
    "signed-constant": signed_constant,
    "signed-constant-elu": signed_constant_elu,
    "signed-constant-2020": signed_constant_2020,
    "signed-constant-e": signed_constant_e,
    "signed-constant-std": signed_constant_std,
    "uniform-glorot": uniform_glorot,
    "glorot-normal": glorot_normal,
    "glorot-uniform": glorot_uniform,
}


def _uniform(stream: np.random.Philox, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform float64 values in (0, 1): multiples of 2^-53 plus half a step, so that neither 0 nor 1 is drawn."""
    raw = stream.random_raw(math.prod(shape)).reshape(shape)
    return ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
