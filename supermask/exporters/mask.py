"""The mask alone as a NumPy archive of bool arrays."""

import io
from typing import Any

import numpy as np

SUFFIX = "-mask.npz"


def encode(ticket: Any) -> bytes:
    """Bool arrays named by parameter path: True where a weight is kept.

    Of a sampled mask those kept with probability 1/2 or more, of any other those whose factor is not zero.
    """
    kept = {name: array >= 128 if array.dtype == np.uint8 else array != 0 for name, array in ticket.mask.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **kept)
    return buffer.getvalue()
