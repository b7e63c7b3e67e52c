"""Vision Transformer: patches as tokens, a class token, pre-norm blocks of attention and GELU layers.

Dosovitskiy et al.: An Image is Worth 16x16 Words. ICLR 2021, arXiv 2010.11929; tiny and small from Touvron et al. 2021,
arXiv 2012.12877. Parameters are named as in timm.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from supermask.archs._norm import Identity, norm
from supermask.archs._sizes import require_size
from supermask.errors import UsageError
from supermask.types import Array

MEMBERS = {
    "vit-tiny": {"heads": 3, "depth": 12},
    "vit-small": {"heads": 6, "depth": 12},
    "vit-base": {"heads": 12, "depth": 12},
}
TORCH_BIASES = ("patch_embed.proj", "blocks.*.*.*", "head")
TORCH_NORMS = {
    "blocks.*.norm1": "before blocks.*.attn.qkv",
    "blocks.*.norm2": "before blocks.*.mlp.fc1",
    "norm": "before head",
}
_HEAD = 64  # features of a head, in all three


@dataclass(frozen=True)
class Vit:
    """`depth` blocks of attention and a hidden layer four times as wide, 64 features a head; no biases.

    Attributes:
        heads: number of heads of the attention.
        depth: number of blocks.
        width: factor on the features of a head, and so on every hidden width.
        norm: what normalises: none, batch, ghost, layer or group, or affine for a layer norm with scale and bias.
        patch: height and width of a patch in pixels, which must divide those of the image. 0 takes the largest that
            does: up to 16 for images of at least 224x224, else up to 4.
        dropout: fraction dropped after the positions are added, after attention and in the hidden layers.
        attention_dropout: fraction dropped of the attention that a token pays.
        position_std: standard deviation of the positional embeddings, which stay as they are drawn.
    """

    heads: int = 3
    depth: int = 12
    width: float = 1.0
    norm: str = "layer"
    patch: int = 0
    dropout: float = 0.0
    attention_dropout: float = 0.0
    position_std: float = 1.0

    def build(self, example: Any, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
        """Build the network for images (batch, height, width, channels).

        Raises:
            UsageError: the patches do not divide the images, or an option is out of range.
        """
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"option {name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if self.position_std < 0:
            raise UsageError(f"option position_std is {self.position_std}; it must be at least 0")
        return _Net(self, example.shape[1:], _patch(self.patch, example.shape[1:3]), outputs, rngs)


def _patch(asked: int, size: tuple[int, int]) -> int:
    """The size of a patch; raise a UsageError if it does not divide the image."""
    height, across = size
    if asked < 0:
        raise UsageError(f"option patch is {asked}; it must be at least 1, or 0 for what suits the images")
    if asked:
        require_size(f"a patch of {asked}", size, asked)
    limit = asked or (16 if min(size) >= 224 else 4)
    fitting = max(patch for patch in range(1, limit + 1) if height % patch == across % patch == 0)
    if fitting < asked or (not asked and fitting == 1 < min(size)):
        raise UsageError(
            f"patches of {limit} pixels do not divide images of {height}x{across}: use --image-size "
            f"{max(1, round(height / limit)) * limit}, or -a patch={fitting}"
        )
    return fitting


class _Net(nnx.Module):
    def __init__(self, arch: Vit, image_shape: tuple[int, int, int], patch: int, classes: int, rngs: nnx.Rngs):
        height, across, channels = image_shape
        dim = arch.heads * max(1, int(_HEAD * arch.width))
        tokens = (height // patch) * (across // patch) + 1
        self.patch_embed = _PatchEmbed(channels, dim, patch, rngs)
        self.cls_token = nnx.Param(nnx.initializers.normal(arch.position_std)(rngs.params(), (1, 1, dim)))
        self.pos_embed = nnx.Param(nnx.initializers.normal(arch.position_std)(rngs.params(), (1, tokens, dim)))
        self.pos_drop = _dropout(arch.dropout, rngs)
        self.blocks = nnx.List([_Block(arch, dim, rngs) for _ in range(arch.depth)])
        self.norm = _norm(arch, dim, rngs)
        self.head = nnx.Linear(dim, classes, use_bias=False, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = self.patch_embed(x)
        first = jnp.broadcast_to(self.cls_token[...].astype(x.dtype), (len(x), 1, x.shape[-1]))
        x = self.pos_drop(jnp.concatenate([first, x], axis=1) + self.pos_embed[...].astype(x.dtype))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class _PatchEmbed(nnx.Module):
    def __init__(self, channels: int, dim: int, patch: int, rngs: nnx.Rngs):
        size = (patch, patch)
        self.proj = nnx.Conv(channels, dim, size, strides=size, padding="VALID", use_bias=False, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = self.proj(x)
        return x.reshape(len(x), -1, x.shape[-1])


class _Block(nnx.Module):
    def __init__(self, arch: Vit, dim: int, rngs: nnx.Rngs):
        self.norm1, self.norm2 = _norm(arch, dim, rngs), _norm(arch, dim, rngs)
        self.attn, self.mlp = _Attention(arch, dim, rngs), _Mlp(arch, dim, rngs)

    def __call__(self, x: Array) -> Array:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _Attention(nnx.Module):
    def __init__(self, arch: Vit, dim: int, rngs: nnx.Rngs):
        dense = partial(nnx.Linear, use_bias=False, rngs=rngs)
        self.heads = arch.heads
        self.qkv, self.proj = dense(dim, 3 * dim), dense(dim, dim)
        self.attn_drop, self.proj_drop = _dropout(arch.attention_dropout, rngs), _dropout(arch.dropout, rngs)

    def __call__(self, x: Array) -> Array:
        batch, tokens, dim = x.shape
        split = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads)
        query, key, value = (split[:, :, i] for i in range(3))
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(dim // self.heads)
        paid = self.attn_drop(jax.nn.softmax(scores, axis=-1))
        seen = jnp.einsum("bhqk,bkhd->bqhd", paid, value)
        return self.proj_drop(self.proj(seen.reshape(x.shape)))


class _Mlp(nnx.Module):
    def __init__(self, arch: Vit, dim: int, rngs: nnx.Rngs):
        self.fc1 = nnx.Linear(dim, 4 * dim, use_bias=False, rngs=rngs)
        self.fc2 = nnx.Linear(4 * dim, dim, use_bias=False, rngs=rngs)
        self.drop1, self.drop2 = _dropout(arch.dropout, rngs), _dropout(arch.dropout, rngs)

    def __call__(self, x: Array) -> Array:
        x = self.drop1(jax.nn.gelu(self.fc1(x), approximate=False))
        return self.drop2(self.fc2(x))


def _norm(arch: Vit, dim: int, rngs: nnx.Rngs) -> nnx.Module:
    return norm(arch.norm, dim, rngs, affine="layer", epsilon=1e-6)


def _dropout(rate: float, rngs: nnx.Rngs) -> nnx.Module:
    return nnx.Dropout(rate, rngs=rngs) if rate else Identity()
