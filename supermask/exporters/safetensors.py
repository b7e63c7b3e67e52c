"""Effective weights and batch statistics as safetensors, with the config in the metadata."""

import json
from typing import Any

from safetensors.numpy import save

SUFFIX = "-weights.safetensors"


def encode(ticket: Any) -> bytes:
    """The content of the file: float32 tensors named by parameter path, and the network's state.

    Dense layers are (in, out), convolutions HWIO.

    The config is one JSON document, under `config` in the metadata.
    """
    return save(ticket.effective() | ticket.state, {"config": json.dumps(ticket.config.to_dict(), sort_keys=True)})
