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

from supermask.config import SearchConfig
from supermask.types import Shapes, Tree

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


def of_config(config: SearchConfig, seed: int, shapes: Shapes) -> Tree:
    """The frozen weights of a resolved config, of a seed of its own."""
    return draw(str(config.init), seed, shapes, config.density if config.scale_by_density else 1.0)


def maskable(shapes: Shapes) -> Shapes:
    """The parameters that a mask covers: those of two dimensions and more."""
    return {name: shape for name, shape in shapes.items() if len(shape) > 1}


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan-in, fan-out) of a kernel (..., in, out); spatial dimensions multiply both."""
    field = math.prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field


def fingerprint(weights: Tree) -> dict[str, str]:
    """16 hex digits per parameter, of SHA-256 over its little-endian bytes."""
    return {
        name: hashlib.sha256(np.ascontiguousarray(array, "<f4").tobytes()).hexdigest()[:16]
        for name, array in weights.items()
    }


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


def normal_quantile(p: np.ndarray) -> np.ndarray:
    """The inverse normal CDF in float64 (Wichura 1988, algorithm AS 241, PPND16); p strictly inside (0, 1)."""
    q = p - 0.5
    r = 0.180625 - q * q
    value = q * _ratio(_CENTRE, r)
    outside = np.abs(q) > 0.425
    near_end = np.minimum(p[outside], 1 - p[outside])
    r = np.sqrt(-_log(near_end))
    tail = np.where(r <= 5, _ratio(_MIDDLE, r - 1.6), _ratio(_FAR, r - 5))
    value[outside] = np.where(q[outside] < 0, -tail, tail)
    return value


def _log(x: np.ndarray) -> np.ndarray:
    """Natural logarithm by 2 atanh((m - 1) / (m + 1)), m in [sqrt(1/2), sqrt(2))."""
    m, e = np.frexp(x)
    low = m < 0.7071067811865476
    m, e = np.where(low, 2 * m, m), np.where(low, e - 1, e)
    s = (m - 1) / (m + 1)
    square, series = s * s, np.zeros_like(s)
    for power in range(23, 0, -2):
        series = series * square + 1 / power
    return e * 0.6931471805599453 + 2 * s * series


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: np.ndarray) -> np.ndarray:
    top, bottom = (np.full_like(x, row[-1]) for row in coefficients)
    for a, b in zip(coefficients[0][-2::-1], coefficients[1][-2::-1], strict=True):
        top, bottom = top * x + a, bottom * x + b
    return top / bottom


# fmt: off
_CENTRE = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
     4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
)
_MIDDLE = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
     1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)
_FAR = (
    (6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
     2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
)
# fmt: on
