"""What forgetting leaves of a trained network, and the new values of what it does not.

Sources: Zhou et al. 2022, arXiv 2202.00155 (later-layer forgetting); Taha et al. 2021, arXiv 2103.05152 (knowledge
evolution, at the level of kernels and of weights). To reset is to draw new values, to rewind is to go back to those of
the start. Nothing here needs JAX, and the same seed and generation give the same values on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from supermask.errors import UsageError
from supermask.types import Shapes, Tree
from supermask.weights.inits import INITS, kaiming_uniform
from supermask.weights.parameters import Parameters, masked_shapes, matches
from supermask.weights.streams import stream


def first_reset(layers: Sequence[str], parameters: Parameters, asked: str | None) -> int:
    """Place of the first layer that later-layer forgetting resets.

    Args:
        layers: names of the kernels, in the order in which the network applies them.
        asked: such a place, counted from 0; or a name, or a part of the network, of which the first kernel is meant;
            None for the later half.

    Raises:
        UsageError: there is no such layer.
    """
    if asked is None:
        return len(layers) // 2
    places = [i for i, name in enumerate(layers) if matches(name, parameters[name], asked)]
    if asked.isdigit() and int(asked) < len(layers):
        places = [int(asked)]
    if not places:
        named = ", ".join(f"{i} {name}" for i, name in enumerate(layers))
        raise UsageError(f"--layer {asked} is not one of the layers: {named}")
    return places[0]


def earlier_layers(layers: Sequence[str], shapes: Shapes, first: int) -> Tree:
    """What later-layer forgetting keeps: the layers before place `first`, whole."""
    return {name: np.full(shapes[name], layers.index(name) < first) for name in shapes}


def leading_slices(
    layers: Sequence[str], parameters: Parameters, flattened: Mapping[str, tuple[int, ...]], split: float
) -> Tree:
    """What knowledge evolution keeps at the level of kernels: the first outputs for the first inputs of each layer.

    Of n, they are the first ceil(split * n). The first layer keeps all inputs and the last one all outputs. A dense
    layer that sees flattened images keeps the inputs that come from the first channels.

    Args:
        layers: names of the kernels, in the order in which the network applies them.
        flattened: the shape, channels last, of the images whose flattened form a layer sees.

    Raises:
        UsageError: the network has a layer whose outputs are no other layer's inputs, so that slices would not fit.
    """
    shapes = {name: parameters[name].shape for name in layers}
    _check_fit(layers, shapes, flattened)
    found = {}
    for name, shape in shapes.items():
        kept = np.zeros(shape, bool)
        outputs = shape[-1] if name == layers[-1] else _first(shape[-1], split)
        if name == layers[0]:
            kept[..., :outputs] = True
        elif name in flattened:
            image = flattened[name]
            view = kept.reshape(*image, shape[-1])
            view[..., : _first(image[-1], split), :outputs] = True
        else:
            kept[..., : _first(shape[-2], split), :outputs] = True
        found[name] = kept
    return {name: found[name] for name in masked_shapes(parameters)}


def _first(count: int, split: float) -> int:
    return math.ceil(round(split * count, 9))  # 0.55 * 100 is above 55 in floats


def _check_fit(layers: Sequence[str], shapes: Shapes, flattened: Mapping[str, tuple[int, ...]]) -> None:
    flat = [name for name, shape in shapes.items() if len(shape) < 2]
    taken = {flattened[name][-1] if name in flattened else shapes[name][-2] for name in layers[1:] if name not in flat}
    for name in layers[:-1]:
        if name in flat or shapes[name][-1] not in taken:
            raise UsageError(
                f"kels keeps the first outputs of a layer as inputs of the next one, and no layer takes as many as "
                f"{name} {shapes[name]} has outputs: take --op wels"
            )


def random_weights(seed: int | str, shapes: Shapes, split: float | Mapping[str, float]) -> Tree:
    """What knowledge evolution keeps at the level of weights: each with probability `split`, the same for ever.

    Args:
        seed: or words that tell draws apart.
        split: of all layers, or by layer.
    """
    found = {}
    for name, shape in shapes.items():
        raw = stream(seed, "wels", name).random_raw(math.prod(shape)) >> np.uint64(11)
        share = split if isinstance(split, float) else split[name]
        found[name] = (raw.astype(float) * 2.0**-53 < share).reshape(shape)
    return found


def fresh(init: str, seed: int | str, generation: int, parameters: Parameters) -> Tree:
    """New random values of all maskable parameters, others in each generation.

    Args:
        init: a name of an init, or `pytorch`: uniform on +-1 / sqrt(fan-in), which PyTorch gives to new layers and the
            published code to those that it resets, whatever they began with.
    """
    found = {}
    for name, parameter in parameters.items():
        if parameter.masked:
            bits = stream(seed, f"generation {generation}", init, name)
            draw = _pytorch if init == "pytorch" else INITS[init]
            found[name] = draw(bits, parameter.shape, parameter.fans).astype(np.float32)
    return found


def _pytorch(bits: np.random.Philox, shape: tuple[int, ...], fans: tuple[float, float]) -> np.ndarray:
    return kaiming_uniform(bits, shape, fans) / math.sqrt(6)


def replaced(trained: Tree, kept: Tree, values: Tree) -> Tree:
    """The trained network with other values where a mask of the maskable parameters does not keep it."""
    return trained | {name: np.where(mask, trained[name], values[name]) for name, mask in kept.items()}
