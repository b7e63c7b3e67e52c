"""Normalisation layers with PyTorch's conventions; non-affine unless asked, as the supermask papers have them.

A scale or an offset beside a mask would be a parameter that is neither masked nor drawn; so `batch`, `layer` and
`group` have none, and `affine` has both, which `--train norm` trains (the "+BN" rows of Diffenderfer & Kailkhura 2021).
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import lax

from supermask.errors import require
from supermask.types import Array

NORMS = ("none", "batch", "affine", "layer", "group")
_GROUPS = 32  # as many as Wu & He 2018 take, or fewer where they do not divide the channels


class BatchNorm(nnx.BatchNorm):
    """Batch norm as in PyTorch: a step moves the running statistics by a tenth, and their variance is unbiased."""

    def __init__(self, features: int, *, affine: bool = False, epsilon: float = 1e-5, rngs: nnx.Rngs):
        super().__init__(features, momentum=0.9, epsilon=epsilon, use_bias=affine, use_scale=affine, rngs=rngs)

    def __call__(self, x: Array) -> Array:  # type: ignore[override]  # statistics and a mask of the caller's have no say
        """Normalise (batch, ..., features) by the batch in training, by the running statistics in evaluation."""
        mean, var = self.mean[...], self.var[...]
        if not self.use_running_average:
            count = math.prod(x.shape[:-1])
            axes = tuple(range(x.ndim - 1))
            exact = x.astype(jnp.float32)
            mean, square = jnp.sum(exact, axes) / count, jnp.sum(exact * exact, axes) / count
            var = jnp.maximum(square - mean * mean, 0)
            self._move(self.mean, mean)
            self._move(self.var, var * (count / max(1, count - 1)))
        factor = lax.rsqrt(var + self.epsilon)
        if self.scale is not None:
            factor *= self.scale[...]
        offset = -mean * factor if self.bias is None else self.bias[...] - mean * factor
        return x * factor.astype(x.dtype) + offset.astype(x.dtype)

    def _move(self, running: Any, found: Array) -> None:
        # Not `running[...] =`, where Flax asks a traced value for its sharding and JAX searches the whole program for
        # words about why it has none: a fifth of the time that MobileNetV2 took to build.
        running.set_value(self.momentum * running[...] + (1 - self.momentum) * lax.stop_gradient(found))


class Identity(nnx.Module):
    """What stands where a network has no norm."""

    def __call__(self, x: Array) -> Array:
        return x


def norm(kind: str, features: int, rngs: nnx.Rngs, *, affine: str = "batch", epsilon: float = 1e-5) -> nnx.Module:
    """Make a normalisation layer over the last axis of (batch, ..., features).

    Args:
        kind: one of NORMS. `layer` normalises the features of each position, `group` up to 32 groups of channels of
            each image.
        affine: which kind `affine` is.

    Raises:
        UsageError: the kind is none of these.
    """
    require("option norm", kind, NORMS)
    with_scale = kind == "affine"
    kind = affine if with_scale else kind
    if kind == "none":
        return Identity()
    if kind == "batch":
        return BatchNorm(features, affine=with_scale, epsilon=epsilon, rngs=rngs)
    own: dict[str, Any] = {"epsilon": epsilon, "use_bias": with_scale, "use_scale": with_scale, "rngs": rngs}
    if kind == "layer":
        return nnx.LayerNorm(features, **own)
    groups = max(count for count in range(1, _GROUPS + 1) if features % count == 0)
    return nnx.GroupNorm(features, num_groups=groups, **own)
