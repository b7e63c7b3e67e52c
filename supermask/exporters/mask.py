"""The mask alone as a NumPy archive of bool arrays."""

import io
from typing import Any

import numpy as np

from supermask.errors import UsageError

SUFFIX = "-mask.npz"


def encode(ticket: Any) -> bytes:
    """The content of a NumPy archive with one bool array per maskable parameter: True where a weight is kept.

    A weight of a sampled mask (uint8, probabilities in 255ths) counts as kept from probability 1/2 on; a weight of any
    other mask if its factor is not zero.

    Raises:
        UsageError: weights that were trained dense, which have no mask.
    """
    if not ticket.mask:
        raise UsageError("these weights were trained dense, so there is no mask to export: take npz or safetensors")
    kept = {name: array >= 128 if array.dtype == np.uint8 else array != 0 for name, array in ticket.mask.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **kept)
    return buffer.getvalue()
