"""Effective weights and batch statistics as a NumPy archive, one array each."""

import io
from typing import Any

import numpy as np

SUFFIX = ".npz"


def encode(ticket: Any) -> bytes:
    """The content of the archive: float32 arrays named by parameter path, and the network's state.

    Dense layers are (in, out), convolutions HWIO.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **ticket.effective(), **ticket.state)
    return buffer.getvalue()
