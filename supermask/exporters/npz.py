"""Effective weights as a NumPy archive, one float32 array per parameter."""

import io
from typing import Any

import numpy as np

SUFFIX = ".npz"


def encode(ticket: Any) -> bytes:
    """Arrays named by parameter path; layouts as in the ticket: dense (in, out), kernels HWIO."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **ticket.effective())
    return buffer.getvalue()
