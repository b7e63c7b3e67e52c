"""A PyTorch state_dict as safetensors: kernels OIHW, dense layers (out, in), `conv1/kernel` as `conv1.weight`.

Flax flattens an image in the order height, width, channels, PyTorch in the order channels, height, width. So the
inputs of the dense layer that sees the flattened image are reordered to match `x.flatten(1)` of an NCHW network.
Of a built-in arch, the biases and norms that the published model has besides are written too, see `_published`.
"""

import re
from typing import Any

import numpy as np
from safetensors.numpy import save

from supermask import registry
from supermask.config import Config
from supermask.errors import UsageError, require
from supermask.exporters._published import completed
from supermask.types import Tree

SUFFIX = "-torch.safetensors"
NAMES = {
    **{"kernel": "weight", "scale": "weight", "embedding": "weight", "negative_slope": "weight"},
    **{"mean": "running_mean", "var": "running_var"},
}
DENSE = ("Linear", "LinearGeneral", "LoRALinear")


def encode(ticket: Any, flattened: str | None = None) -> bytes:
    """The content of the file: float32 tensors for `load_state_dict` of an NCHW network whose layers have these names.

    Args:
        flattened: name of the kernel that sees the flattened image, where the ticket does not tell; `none` if there is
            none.

    Raises:
        UsageError: a parameter has no known layout in PyTorch, or it is not known which layer sees the flattened image.
    """
    found = tensors(ticket, flattened)
    found |= added(found, ticket.config)
    return save({name: np.asarray(array, order="C") for name, array in found.items()})


def added(found: Tree, config: Config) -> Tree:
    """What the published model of a built-in arch holds beside these tensors, which changes nothing there."""
    if registry.is_own("archs", config.arch):
        return {}
    facts, norm = registry.describe("archs", config.arch).constants, str(config.arch_options.get("norm"))
    return {name: array for name, array in completed(found, facts, norm).items() if name not in found}


def tensors(ticket: Any, flattened: str | None = None) -> dict[str, np.ndarray]:
    """The network's own arrays by PyTorch's names. Values are moved and not computed with.

    So the same function tells where the values of a state_dict belong (`runs.given`): applied to places in place of
    weights, it is its own inverse.
    """
    arrays, state = ticket.effective(), dict(ticket.state)
    images = _flattened(ticket, flattened)
    found = {_name(name): _as_torch(ticket, name, array, images.get(name, ())) for name, array in arrays.items()}
    for name, array in state.items():
        found[_name(name)] = array
    return found


def _as_torch(ticket: Any, name: str, array: np.ndarray, image: tuple[int, ...]) -> np.ndarray:
    """A parameter in PyTorch's layout.

    Args:
        image: (..., channels) of the flattened images that it sees, () if it sees none.
    """
    parameter, leaf = ticket.parameters[name], name.rpartition("/")[2]
    if parameter.role != "kernel":
        # Attention has a bias per head; PyTorch's projection has one vector. A single slope is a vector too.
        return array.reshape(-1) if parameter.layer in DENSE or leaf == "negative_slope" else array
    if parameter.layer == "Conv" and array.ndim > 2:
        return np.moveaxis(array, (-1, -2), (0, 1))
    fan_in, fan_out = (int(fan) for fan in parameter.fans)
    if parameter.layer not in DENSE or fan_in * fan_out != array.size:
        what = f"of {parameter.layer}" if parameter.layer else "of the network's own"
        raise UsageError(
            f"{name} {array.shape}, a kernel {what}, has no layout in PyTorch that supermask knows: export npz or "
            "safetensors, and convert it there"
        )
    matrix = array.reshape(fan_in, fan_out)
    if image:  # pixels, channels, out
        matrix = matrix.reshape(-1, image[-1], fan_out).transpose(1, 0, 2).reshape(fan_in, fan_out)
    return matrix.T


def _flattened(ticket: Any, asked: str | None) -> dict[str, tuple[int, ...]]:
    """The shape before it was flattened of the image that a kernel sees, by the kernel's name."""
    arch = ticket.config.arch
    if asked is not None:
        if asked == "none":
            return {}
        kernels = [name for name, shape in ticket.shapes.items() if len(shape) == 2 and name.endswith("kernel")]
        require("kernel for --flattened", asked, [*kernels, "none"])
        return {asked: (_last_channels(ticket),)}
    if ":" not in arch:
        layer = registry.describe("archs", arch).constants.get("FLATTENED")  # none where images are averaged
        return {f"{layer}/kernel": (_last_channels(ticket),)} if layer else {}
    grey = ticket.image_shape[-1] == 1 and not any(len(shape) == 4 for shape in ticket.shapes.values())
    if any(found.flattened is None for found in ticket.parameters.values()) and not grey:
        raise UsageError(
            f"the torch export does not know where {arch} flattens its images: say --flattened with the name of the "
            "kernel after that, or --flattened none"
        )
    known = {name: found.flattened for name, found in ticket.parameters.items() if found.flattened}
    for name, shape in known.items():
        if shape[-1] > 1 and len(shape) != 3:
            raise UsageError(
                f"{name} sees images flattened from {shape}, whose order in PyTorch is not known: give --flattened "
                "none to keep it, and order the inputs of that layer in PyTorch in the same way"
            )
    return {name: shape for name, shape in known.items() if len(shape) == 3}


def _last_channels(ticket: Any) -> int:
    """The number of channels of what is flattened: of the last convolution's output, or else of the image."""
    kernels = [name for name, shape in ticket.shapes.items() if len(shape) == 4]
    if not kernels:
        return ticket.image_shape[-1]
    last = max(kernels, key=lambda name: [int(part) if part.isdigit() else 0 for part in re.split(r"(\d+)", name)])
    return ticket.shapes[last][-1]


def _name(name: str) -> str:
    *path, leaf = name.split("/")
    return ".".join([*path, NAMES.get(leaf, leaf) if path else leaf])
