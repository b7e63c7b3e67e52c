"""Normalisation layers with PyTorch's conventions; non-affine unless asked, as the supermask papers have them.

A scale or an offset beside a mask would be a parameter that is neither masked nor drawn; so `batch`, `ghost`,
`layer` and `group` have none, and `affine` has both, which `--train norm` trains (the "+BN" rows of Diffenderfer &
Kailkhura 2021).
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import lax

from supermask.errors import UsageError, require
from supermask.types import Array

NORMS = ("none", "batch", "affine", "ghost", "layer", "group")
_GHOST = 16  # examples
_GROUPS = 32  # as many as Wu & He 2018 take, or fewer where they do not divide the channels


class BatchNorm(nnx.BatchNorm):
    """Batch norm as in PyTorch: a step moves the running statistics by a tenth, and their variance is unbiased."""

    def __init__(self, features: int, *, affine: bool = False, epsilon: float = 1e-5, rngs: nnx.Rngs):
        super().__init__(features, momentum=0.9, epsilon=epsilon, use_bias=affine, use_scale=affine, rngs=rngs)

    def __call__(self, x: Array) -> Array:  # type: ignore[override]  # statistics and a mask of the caller's have no say
        """Normalise (batch, ..., features) by the batch in training, by the running statistics in evaluation."""
        mean, var = self.mean[...], self.var[...]
        if not self.use_running_average:
            mean, var = _moments(x, tuple(range(x.ndim - 1)))
            self._follow(mean, var, math.prod(x.shape[:-1]))
        return self._normalised(x, mean, var)

    def _follow(self, mean: Array, var: Array, count: int) -> None:
        """Move the running statistics towards a mean and the biased variance of `count` elements."""
        self._move(self.mean, mean)
        self._move(self.var, var * (count / max(1, count - 1)))

    def _normalised(self, x: Array, mean: Array, var: Array) -> Array:
        factor = lax.rsqrt(var + self.epsilon)
        if self.scale is not None:
            factor *= self.scale[...]
        offset = -mean * factor if self.bias is None else self.bias[...] - mean * factor
        return x * factor.astype(x.dtype) + offset.astype(x.dtype)

    def _move(self, running: Any, found: Array) -> None:
        # Not `running[...] =`, where Flax asks a traced value for its sharding and JAX searches the whole program for
        # words about why it has none: a fifth of the time that MobileNetV2 took to build.
        running.set_value(self.momentum * running[...] + (1 - self.momentum) * lax.stop_gradient(found))


def _moments(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and biased variance over these axes, float32."""
    exact, count = x.astype(jnp.float32), math.prod(x.shape[axis] for axis in axes)
    mean, square = jnp.sum(exact, axes) / count, jnp.sum(exact * exact, axes) / count
    return mean, jnp.maximum(square - mean * mean, 0)


class GhostNorm(BatchNorm):
    """Batch norm whose statistics in training are of a few examples in a row, a ghost batch, not of the whole batch.

    Hoffer, Hubara, Soudry: Train longer, generalize better. NIPS 2017, arXiv 1705.08741. There the running statistics
    move once for each ghost batch; here once in a step, towards the mean over the ghost batches, whose order then does
    not matter.

    Attributes:
        ghost: number of examples of a ghost batch, see `ghost_size`.
    """

    def __init__(self, features: int, ghost: int, *, epsilon: float = 1e-5, rngs: nnx.Rngs):
        super().__init__(features, epsilon=epsilon, rngs=rngs)
        self.ghost = ghost

    def __call__(self, x: Array) -> Array:  # type: ignore[override]
        """Normalise (batch, ..., features) by ghost batches in training, by the running statistics in evaluation."""
        if self.use_running_average or (size := ghost_size(len(x), self.ghost)) == len(x):
            return super().__call__(x)
        batches = x.reshape(-1, size, *x.shape[1:])
        moments = _moments(batches, tuple(range(1, batches.ndim - 1)))
        mean, var = (array.mean(0) for array in moments)
        self._follow(mean, var, math.prod(batches.shape[1:-1]))
        each = [array.reshape(-1, *[1] * (x.ndim - 1), x.shape[-1]) for array in moments]
        return self._normalised(batches, *each).reshape(x.shape)


def ghost_size(examples: int, ghost: int) -> int:
    """The number of examples of each ghost batch: the largest up to `ghost` that divides the number of examples."""
    return max(size for size in range(1, min(ghost, examples) + 1) if examples % size == 0)


class Identity(nnx.Module):
    """What stands where a network has no norm."""

    def __call__(self, x: Array) -> Array:
        return x


def norm(kind: str, features: int, rngs: nnx.Rngs, *, affine: str = "batch", epsilon: float = 1e-5) -> nnx.Module:
    """Make a normalisation layer over the last axis of (batch, ..., features).

    Args:
        kind: one of NORMS; `ghost` also with the examples of a ghost batch, as in `ghost:8`. `layer` normalises the
            features of each position, `group` up to 32 groups of channels of each image.
        affine: which kind `affine` is.

    Raises:
        UsageError: the kind is none of these, or has a size that it cannot have.
    """
    kind, colon, size = kind.partition(":")
    require("option norm", kind, NORMS)
    if colon and (kind != "ghost" or not size.isdecimal() or int(size) < 2):
        raise UsageError(f"option norm is {kind}:{size}; only ghost has a size, 2 or more examples: ghost:{_GHOST}")
    with_scale = kind == "affine"
    kind = affine if with_scale else kind
    if kind == "none":
        return Identity()
    if kind == "batch":
        return BatchNorm(features, affine=with_scale, epsilon=epsilon, rngs=rngs)
    if kind == "ghost":
        return GhostNorm(features, int(size or _GHOST), epsilon=epsilon, rngs=rngs)
    own: dict[str, Any] = {"epsilon": epsilon, "use_bias": with_scale, "use_scale": with_scale, "rngs": rngs}
    if kind == "layer":
        return nnx.LayerNorm(features, **own)
    groups = max(count for count in range(1, _GROUPS + 1) if features % count == 0)
    return nnx.GroupNorm(features, num_groups=groups, **own)
