"""A PyTorch state_dict as safetensors: kernels OIHW, dense layers (out, in), `conv1/kernel` as `conv1.weight`.

Flax flattens an image in the order height, width, channels, PyTorch in the order channels, height, width. So the
inputs of the dense layer that sees the flattened image are reordered to match `x.flatten(1)` of an NCHW network.
"""

import re
from typing import Any

import numpy as np
from safetensors.numpy import save

from supermask import registry
from supermask.errors import UsageError

SUFFIX = "-torch.safetensors"
NAMES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def encode(ticket: Any) -> bytes:
    """The content of the file: float32 tensors for `load_state_dict` of an NCHW network whose layers have these names.

    Raises:
        UsageError: the arch is a user's own, and supermask does not know which layer sees the flattened image.
    """
    arrays, flattened = ticket.effective(), _flattened(ticket)
    channels = _last_channels(ticket)
    state = {}
    for name, array in (arrays | ticket.state).items():
        if name == flattened:
            rows = array.reshape(-1, channels, array.shape[1])  # pixels, channels, out
            array = rows.transpose(1, 0, 2).reshape(array.shape)
        if array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        state[_name(name)] = np.ascontiguousarray(array.T if array.ndim == 2 else array)
    return save(state)


def _flattened(ticket: Any) -> str | None:
    """The name of the kernel whose rows are the flattened image; None if both orders are the same."""
    arch = ticket.config.arch
    if ":" not in arch:
        return f"{registry.describe('archs', arch).constants['FLATTENED']}/kernel"
    if ticket.image_shape[-1] == 1 and not any(len(shape) == 4 for shape in ticket.shapes.values()):
        return None
    raise UsageError(
        f"the torch export does not know where {arch} flattens its images; export safetensors instead, and reorder "
        "the rows of the layer after that from height, width, channels to channels, height, width"
    )


def _last_channels(ticket: Any) -> int:
    """The number of channels of what is flattened: of the last convolution's output, or else of the image."""
    kernels = [name for name, shape in ticket.shapes.items() if len(shape) == 4]
    if not kernels:
        return ticket.image_shape[-1]
    last = max(kernels, key=lambda name: [int(part) if part.isdigit() else 0 for part in re.split(r"(\d+)", name)])
    return ticket.shapes[last][-1]


def _name(name: str) -> str:
    *path, leaf = name.split("/")
    return ".".join([*path, NAMES.get(leaf, leaf)])
