"""Effective weights as safetensors, with the config in the metadata."""

import json
from typing import Any

from safetensors.numpy import save

SUFFIX = "-weights.safetensors"


def encode(ticket: Any) -> bytes:
    """Float32 tensors named by parameter path; layouts as in the ticket: dense (in, out), kernels HWIO."""
    return save(ticket.effective(), {"config": json.dumps(ticket.config.to_dict(), sort_keys=True)})
