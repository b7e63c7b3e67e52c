"""Transformer decoder for sequences of tokens: causal attention and GELU layers, each after a norm.

Radford et al.: Language Models are Unsupervised Multitask Learners. 2019 (GPT-2), without biases. Frozen at random with
trained embeddings: Zhong & Andreas 2024, arXiv 2410.04368. Rotary positions: Su et al. 2021, arXiv 2104.09864. The
factor on queries and keys: Otsuka et al. 2025, arXiv 2511.04217.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from supermask.archs._norm import Identity, norm
from supermask.errors import UsageError, require
from supermask.resolve import as_type
from supermask.types import Array

INPUTS = "tokens"
POSITIONS = ("learned", "rotary")
NORMS = ("layer", "affine", "none")
_DIM = 128


@dataclass(frozen=True)
class Transformer:
    """`layers` blocks of attention and a hidden layer, 128 features; no biases.

    What turns tokens into features and back are the `embeddings`: those of tokens (`wte`) and positions (`wpe`), which
    keep their initial values unless `--maskable embeddings` or `--train embeddings` says otherwise, and the `head`.

    Attributes:
        layers: number of blocks; 0 leaves the embeddings alone, so that each token is answered by itself.
        heads: number of heads of the attention, whose features are the width's share of 128.
        width: factor on the features of a head, and so on every hidden width.
        norm: what normalises: none, layer, or affine for a layer norm with scale and bias.
        positions: learned, a vector for each place; or rotary, which turns queries and keys by their place.
        qk_scale: factor on the weights of queries and keys; auto for the fourth root of the features of a head.
        mlp: hidden features of a block, in multiples of its features.
        embedding_std: standard deviation of embeddings of tokens and positions that are not masked.
    """

    layers: int = 2
    heads: int = 4
    width: float = 1.0
    norm: str = "layer"
    positions: str = "learned"
    qk_scale: str = "auto"
    mlp: float = 4.0
    embedding_std: float = 0.02

    def build(self, example: Any, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
        """Build the network for sequences of `example.shape[1]` tokens.

        Raises:
            UsageError: an option is out of range.
        """
        require("option norm", self.norm, NORMS)
        require("option positions", self.positions, POSITIONS)
        for name, least in (("layers", 0), ("heads", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"option {name} is {getattr(self, name)}; it must be at least {least}")
        for name in ("mlp", "embedding_std"):
            if getattr(self, name) <= 0:
                raise UsageError(f"option {name} is {getattr(self, name)}; it must be above 0")
        head = max(1, int(_DIM * self.width / self.heads))
        if self.positions == "rotary" and head % 2:
            raise UsageError(f"rotary positions turn pairs of features, and a head has {head}: use another --width")
        return _Net(self, head, _factor(self.qk_scale, head), (example.shape[1], outputs), rngs)


def _factor(asked: str, head: int) -> float:
    """The factor on queries and on keys; raise a UsageError if it is neither `auto` nor a number above 0."""
    if asked == "auto":
        return float(head**0.25)
    factor: float = as_type("option qk_scale", asked, float)
    if factor <= 0:
        raise UsageError(f"option qk_scale is {asked}; it must be above 0, or auto")
    return factor


class _Net(nnx.Module):
    def __init__(self, arch: Transformer, head: int, factor: float, sizes: tuple[int, int], rngs: nnx.Rngs):
        dim = arch.heads * head
        self.embeddings = _Embeddings(arch, dim, *sizes, rngs)
        self.blocks = nnx.List([_Block(arch, dim, factor, rngs) for _ in range(arch.layers)])
        self.norm = _norm(arch, dim, rngs)

    def __call__(self, tokens: Array) -> Array:
        x = self.embeddings(tokens)
        for block in self.blocks:
            x = block(x)
        return self.embeddings.head(self.norm(x))


class _Embeddings(nnx.Module):
    def __init__(self, arch: Transformer, dim: int, length: int, tokens: int, rngs: nnx.Rngs):
        embed = partial(nnx.Embed, features=dim, embedding_init=nnx.initializers.normal(arch.embedding_std), rngs=rngs)
        self.wte = embed(tokens)
        self.wpe = embed(length) if arch.positions == "learned" else None
        self.head = nnx.Linear(dim, tokens, use_bias=False, rngs=rngs)

    def __call__(self, tokens: Array) -> Array:
        x = self.wte(tokens)
        return x if self.wpe is None else x + self.wpe.embedding[...].astype(x.dtype)


class _Block(nnx.Module):
    def __init__(self, arch: Transformer, dim: int, factor: float, rngs: nnx.Rngs):
        self.norm1, self.norm2 = _norm(arch, dim, rngs), _norm(arch, dim, rngs)
        self.attn, self.mlp = _Attention(arch, dim, factor, rngs), _Mlp(dim, max(1, int(arch.mlp * dim)), rngs)

    def __call__(self, x: Array) -> Array:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _Attention(nnx.Module):
    def __init__(self, arch: Transformer, dim: int, factor: float, rngs: nnx.Rngs):
        dense = partial(nnx.Linear, dim, dim, use_bias=False, rngs=rngs)
        self.arch, self.factor = arch, factor
        self.query, self.key, self.value, self.proj = dense(), dense(), dense(), dense()

    def __call__(self, x: Array) -> Array:
        batch, length, dim = x.shape
        query, key, value = (
            layer(x).reshape(batch, length, self.arch.heads, -1) for layer in (self.query, self.key, self.value)
        )
        if self.arch.positions == "rotary":
            query, key = _turned(query), _turned(key)
        # The factor is on the weights of both.
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * (self.factor**2 / math.sqrt(query.shape[-1]))
        seen = jnp.arange(length)[:, None] >= jnp.arange(length)
        paid = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
        return self.proj(jnp.einsum("bhqk,bkhd->bqhd", paid, value).reshape(batch, length, dim))


class _Mlp(nnx.Module):
    def __init__(self, dim: int, hidden: int, rngs: nnx.Rngs):
        self.fc1 = nnx.Linear(dim, hidden, use_bias=False, rngs=rngs)
        self.fc2 = nnx.Linear(hidden, dim, use_bias=False, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return self.fc2(jax.nn.gelu(self.fc1(x)))


def _turned(x: Array) -> Array:
    """Turn the pairs (i, i + half) of the features of (batch, length, heads, features) by place / 10000^(i / half)."""
    half = x.shape[-1] // 2
    angle = jnp.arange(x.shape[1])[:, None] / 10000 ** (jnp.arange(half) / half)
    cos, sin = (f(angle)[:, None].astype(x.dtype) for f in (jnp.cos, jnp.sin))
    one, other = x[..., :half], x[..., half:]
    return jnp.concatenate([one * cos - other * sin, one * sin + other * cos], axis=-1)


def _norm(arch: Transformer, dim: int, rngs: nnx.Rngs) -> nnx.Module:
    return Identity() if arch.norm == "none" else norm(arch.norm, dim, rngs, affine="layer")
