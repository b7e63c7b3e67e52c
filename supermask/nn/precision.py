"""The precision of effective weights and activations; scores, optimiser and loss are always float32."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from supermask.types import Array, Model, Tree

TYPES = {"f32": (jnp.float32, "float32"), "tf32": (jnp.float32, "tensorfloat32"), "bf16": (jnp.bfloat16, "default")}
"""For each precision, the type of the arrays and JAX's name for the precision of their products."""


def at_precision(model: Model, precision: str) -> Model:
    """The model with its weights and inputs cast, and its matrix products computed, at the given precision.

    Logits keep the type that the model gives them. Batch statistics and gradients are float32.

    Args:
        model: a model with float32 weights.
        precision: `f32` computes in float32 everywhere, even on a GPU, where JAX by default rounds the factors of a
            product to TF32; `tf32` allows that rounding; `bf16` casts weights and images to bfloat16.
    """
    dtype, products = TYPES[precision]

    def apply(weights: Tree, state: Tree, inputs: Array, *, train: bool, key: Array | None) -> tuple[Array, Tree]:
        cast = {name: w.astype(dtype) for name, w in weights.items()}
        with jax.default_matmul_precision(products):
            inputs = inputs.astype(dtype) if jnp.issubdtype(inputs.dtype, jnp.floating) else inputs
            outputs, after = model.apply(cast, state, inputs, train=train, key=key)
        return outputs, {name: _float32(value) for name, value in after.items()}

    return replace(model, apply=apply)


def _float32(value: Array) -> Array:
    return value.astype(jnp.float32) if jnp.issubdtype(value.dtype, jnp.floating) else value
