"""Effective weights as a NumPy archive, one float32 array per parameter."""

import io
from typing import Any

import numpy as np

SUFFIX = ".npz"


def encode(ticket: Any) -> bytes:
    """The content of the archive: arrays named by parameter path, dense layers (in, out), convolutions HWIO."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **ticket.effective())
    return buffer.getvalue()
