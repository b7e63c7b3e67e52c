"""Parameters of a network: their roles, which of them are masked, and the values of those that are not drawn.

A search records this in its ticket, so that weights can be drawn again without the network's code. A file holds only
what differs from the rule by rank, which held for all tickets of format 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from supermask.errors import UsageError
from supermask.types import Shapes, Tree
from supermask.weights.shapes import fans as fans_by_rank

ROLES = ("kernel", "embedding", "bias", "scale", "other", "unused")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a network.

    Attributes:
        role: `kernel`: contracted with the layer's inputs, by a matrix product or a convolution; `embedding`: rows are
            looked up; `bias`: added, such as biases and positional embeddings; `scale`: multiplied, such as norm scales
            and gates; `other`: used in another way, such as a class token; `unused`: the outputs do not depend on it.
        masked: whether a mask covers it.
        trained: whether a search trains its values beside the mask.
        fans: (fan-in, fan-out) of a kernel: the number of its entries that one output, or one input, meets.
        flattened: of a kernel that sees flattened images, their shape before, channels last; () if it sees none, and
            None if that is not known.
        layer: type of the layer that owns it, such as `Conv`; "" for a parameter of a user's own module.
    """

    shape: tuple[int, ...]
    role: str
    masked: bool
    fans: tuple[float, float] = (0, 0)
    layer: str = ""
    trained: bool = False
    flattened: tuple[int, ...] | None = None

    @property
    def drawn(self) -> bool:
        """Whether it is drawn from the config's `init`; if not, it keeps the module's own initial value."""
        return self.masked or self.role == "kernel"


Parameters = dict[str, Parameter]


def by_rank(shapes: Shapes) -> Parameters:
    """The rule where nothing else is known: parameters of two or more dimensions are masked kernels."""
    return {name: _by_rank(name, tuple(shape)) for name, shape in shapes.items()}


def _by_rank(name: str, shape: tuple[int, ...]) -> Parameter:
    if len(shape) < 2:
        return Parameter(shape, "scale" if name.rsplit("/", 1)[-1] == "scale" else "bias", masked=False)
    return Parameter(shape, "kernel", True, fans_by_rank(shape), {2: "Linear", 4: "Conv"}.get(len(shape), ""))


def as_parameters(found: Mapping[str, Any]) -> Parameters:
    """Parameters as they are; shapes by the rule by rank."""
    shapes = {name: value for name, value in found.items() if not isinstance(value, Parameter)}
    return {**found, **by_rank(shapes)} if shapes else dict(found)


def masked_shapes(parameters: Parameters) -> Shapes:
    """The shapes of the parameters that a mask covers."""
    return {name: found.shape for name, found in parameters.items() if found.masked}


def default_value(name: str) -> float:
    """The value of a parameter that is not drawn and has no value of its own: 1 for `scale`, else 0."""
    return float(name.rsplit("/", 1)[-1] == "scale")


def matches(name: str, parameter: Parameter, patterns: str | None) -> bool:
    """Whether one of the comma-separated patterns fits.

    A pattern is a name such as `head/kernel` or `*/bias`, a part of the network such as `head`, a role, or `norm` for
    the scales and biases of normalisation layers.
    """
    words = [word.strip() for word in (patterns or "").split(",") if word.strip()]
    kinds = {parameter.role} | ({"norm"} if parameter.layer.endswith("Norm") else set())
    return any(fnmatchcase(name, word) or fnmatchcase(name, f"{word}/*") or word in kinds for word in words)


def chosen(
    parameters: Parameters, *, maskable: str | None = None, unmasked: str | None = None, train: str | None = None
) -> Parameters:
    """Mask what `maskable` names, beside the kernels, and leave out what `unmasked` or `train` names.

    Raises:
        UsageError: a pattern names no parameter, or one is named to be masked and not to be.
    """
    for option, patterns in (("--maskable", maskable), ("--unmasked", unmasked), ("--train", train)):
        for word in (patterns or "").split(","):
            if word.strip() and not any(matches(name, found, word) for name, found in parameters.items()):
                raise UsageError(f"{option} {word.strip()} names no parameter; there are: {', '.join(parameters)}")
    result = {}
    for name, found in parameters.items():
        asked, left, trained = (matches(name, found, patterns) for patterns in (maskable, unmasked, train))
        if asked and (left or trained):
            raise UsageError(f"--maskable names {name}, and so does {'--unmasked' if left else '--train'}")
        fans = found.fans if any(found.fans) or not asked else _of_other(found.shape)
        masked = (found.masked or asked) and not (left or trained)
        result[name] = replace(found, masked=masked, fans=fans, trained=trained)
    return result


def _of_other(shape: tuple[int, ...]) -> tuple[float, float]:
    """Fans of a parameter that is no kernel: one row of it is one output, as in an embedding."""
    return (shape[-1] if shape else 1, shape[0] if shape else 1)


def is_closed_gate(parameter: Parameter, values: np.ndarray) -> bool:
    """Whether this is a factor that lets next to nothing through, such as LayerScale's 1e-4 or a norm's initial 0.

    Training opens such a gate. In a search it is frozen, so what is behind it has no say.
    """
    return parameter.role == "scale" and not parameter.trained and bool(np.abs(values).max(initial=0) <= 0.01)


def rows_of(parameters: Parameters, own: Tree, init: str) -> list[dict[str, Any]]:
    """One row per parameter: name, shape, role, what is done with it, and what its values are at first.

    Args:
        own: values of parameters that are not drawn, or that were trained.
        init: the distribution of those that are drawn.
    """
    return [
        {
            "name": name,
            "shape": list(found.shape),
            "role": found.role,
            "masked": found.masked,
            "trained": found.trained,
            "values": _values(own[name]) if name in own else init if found.drawn else f"{default_value(name):g}",
        }
        for name, found in parameters.items()
    ]


def _values(array: np.ndarray) -> str:
    return f"{array.min():g}" if array.min() == array.max() else f"{array.min():.3g} to {array.max():.3g}"


def to_document(parameters: Parameters, own: Tree) -> tuple[dict[str, Any], Tree]:
    """Return (JSON values, tensors `own/NAME`) for a file.

    They hold what differs from the rule by rank. The values are {} if there is nothing else to say, and else have one
    key, `parameters`.

    Args:
        own: values of the parameters that are not drawn.
    """
    rows: dict[str, Any] = {}
    tensors: Tree = {}
    for name, found in parameters.items():
        rule, row = _by_rank(name, found.shape), {}
        if (found.role, found.masked) != (rule.role, rule.masked):
            row = {"role": found.role, "masked": found.masked}
        if found.trained:
            row["trained"] = True
        if found.flattened:
            row["flattened"] = list(found.flattened)
        if len(found.shape) > 1 and found.layer != rule.layer:
            row["layer"] = found.layer
        if found.drawn and found.fans != rule.fans:
            row["fans"] = list(found.fans)
        if name in own:
            values = np.unique(own[name])
            if values.size > 1 or np.isnan(values).any():
                tensors[f"own/{name}"] = np.ascontiguousarray(own[name], np.float32)
            elif float(values[0]) != default_value(name):
                row["value"] = float(values[0])
        if row:
            rows[name] = row
    traced = any(found.flattened is not None for found in parameters.values())
    return {"parameters": rows} if rows or traced else {}, tensors


def from_document(document: Mapping[str, Any], stored: Tree, shapes: Shapes) -> tuple[Parameters, Tree]:
    """Return (parameters, own values) of what `to_document` returned.

    Args:
        stored: the tensors, without `own/`.

    Raises:
        ValueError: they are not those of parameters of these shapes.
    """
    rows = document.get("parameters", {})
    if strangers := [name for name in (*rows, *stored) if name not in shapes]:
        raise ValueError(f"{strangers[0]} is not one of its parameters")
    parameters, own = by_rank(shapes), {}
    if "parameters" in document:
        parameters = {name: replace(found, flattened=()) for name, found in parameters.items()}
    for name, row in rows.items():
        fan_in, fan_out = row.get("fans", parameters[name].fans)
        role, masked = row.get("role", parameters[name].role), row.get("masked", parameters[name].masked)
        layer, trained = row.get("layer", parameters[name].layer), row.get("trained", False)
        flattened = tuple(int(size) for size in row.get("flattened", ()))
        found = Parameter(shapes[name], role, masked, (fan_in, fan_out), str(layer), trained, flattened)
        if (
            role not in ROLES
            or {type(masked), type(trained)} != {bool}
            or (found.drawn and not (fan_in > 0 and fan_out > 0))
        ):
            raise ValueError(f"what it says of {name} is not right")
        parameters[name] = found
        if "value" in row:
            own[name] = np.full(shapes[name], float(row["value"]), np.float32)
    for name, array in stored.items():
        if array.shape != shapes[name] or array.dtype != np.float32:
            raise ValueError(f"its value of {name} is {array.dtype} {array.shape}")
        own[name] = array
    return parameters, own
