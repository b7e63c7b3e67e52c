"""The precision of effective weights and activations; scores, optimiser and loss stay in float32."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from supermask.types import Array, Model, Tree

TYPES = {"f32": (jnp.float32, "float32"), "tf32": (jnp.float32, "tensorfloat32"), "bf16": (jnp.bfloat16, "default")}
"""Of each precision the type of the arrays, and what JAX calls the precision of their products."""


def at_precision(model: Model, precision: str) -> Model:
    """The model with its weights and inputs cast, and its matrix products made, as asked.

    Args:
        model: float32.
        precision: `f32` is float32 everywhere, on a GPU too, where JAX alone would round the factors of a product
            to TF32; `tf32` lets it; `bf16` casts weights and images to bfloat16. Logits come back as the model makes
            them, and gradients in float32.
    """
    dtype, products = TYPES[precision]

    def apply(weights: Tree, state: Tree, inputs: Array, *, train: bool, key: Array | None) -> tuple[Array, Tree]:
        cast = {name: w.astype(dtype) for name, w in weights.items()}
        with jax.default_matmul_precision(products):
            inputs = inputs.astype(dtype) if jnp.issubdtype(inputs.dtype, jnp.floating) else inputs
            outputs, after = model.apply(cast, state, inputs, train=train, key=key)
        return outputs, {name: value.astype(jnp.float32) for name, value in after.items()}

    return replace(model, apply=apply)
