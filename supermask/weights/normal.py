"""The inverse normal CDF, computed only from operations that IEEE 754 rounds correctly everywhere."""

from __future__ import annotations

import numpy as np


def normal_quantile(p: np.ndarray) -> np.ndarray:
    """The inverse normal CDF in float64, for `p` of any shape with values strictly between 0 and 1.

    Source: Wichura 1988, algorithm AS 241, PPND16.
    """
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
    """The natural logarithm, as the series of 2 atanh((m - 1) / (m + 1)) for the mantissa m in [sqrt(1/2), sqrt(2))."""
    m, e = np.frexp(x)
    low = m < 0.7071067811865476
    m, e = np.where(low, 2 * m, m), np.where(low, e - 1, e)
    s = (m - 1) / (m + 1)
    square, series = s * s, np.zeros_like(s)
    for power in range(23, 0, -2):
        series = series * square + 1 / power
    return e * 0.6931471805599453 + 2 * s * series


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: np.ndarray) -> np.ndarray:
    """The quotient of two polynomials in x, coefficients from the constant term up."""
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
