"""TrainedWeights: the result of weight training in one file.

The file is safetensors, sealed as a ticket is (`storage.container`): the weights as float32 (`weights/NAME`), batch
statistics (`stats/NAME`), and the mask that they were trained under, if there was one (see `weights.layers`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from supermask.config import Config
from supermask.config.kinds import config_class
from supermask.errors import BadFileError, SupermaskError, one_line
from supermask.storage.atomic import read_bytes, write_atomic
from supermask.storage.container import seal, unseal
from supermask.types import Shapes, Tree
from supermask.weights.layers import (
    GROUPS,
    as_factors,
    check_metrics,
    density_of,
    grouped,
    layer_rows,
    mask_kind,
    packed,
    read_content,
    read_shapes,
    unpacked,
)
from supermask.weights.parameters import Parameters, by_rank, from_document, masked_shapes, to_document

FORMAT = 1
KIND = "weights"


@dataclass(frozen=True, eq=False)
class TrainedWeights:
    """A trained network, dense or under the mask of a ticket.

    Attributes:
        config: the training, with nothing left open and a single seed.
        image_shape: (height, width, channels) of the images it was trained on.
        weights: all parameters, float32; masked ones as they were trained, not yet multiplied by the mask.
        mask: {} if it was trained dense; else of the masked parameters, see `Method.harden`.
        state: batch statistics, {} for networks without batch norm.
        metrics: loss, train_accuracy, val_accuracy, epochs.
        versions: of the libraries that made it.
        content: fingerprints of the data and of the user's own code, see `runs.content`; {} in earlier files.
        path: the file it was loaded from.
        parameters: roles of parameters; for those left out, the rule by rank holds.
        filled: whether `weights` hold values of pruned weights that the network uses, so that the mask only tells which
            weights those are.
    """

    config: Config
    image_shape: tuple[int, ...]
    weights: Tree
    mask: Tree
    state: Tree
    metrics: dict[str, float]
    versions: dict[str, str] = field(default_factory=dict)
    content: dict[str, str] = field(default_factory=dict)
    path: Path | None = None
    parameters: Parameters = field(default_factory=dict)
    filled: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", by_rank(self.shapes) | self.parameters)

    @property
    def shapes(self) -> Shapes:
        """Of all parameters."""
        return {name: array.shape for name, array in self.weights.items()}

    @property
    def kind(self) -> str:
        """dense, or what the mask is: binary, signed, whole or continuous."""
        return mask_kind(self.mask) if self.mask else "dense"

    @property
    def density(self) -> float:
        """Fraction of maskable weights kept."""
        return density_of(self.mask) if self.mask else 1.0

    def layers(self) -> list[dict[str, Any]]:
        """One row per maskable parameter: name, shape, kept, total, density."""
        dense = {name: np.ones(shape, bool) for name, shape in masked_shapes(self.parameters).items()}
        return layer_rows({name: self.mask.get(name, ones) for name, ones in dense.items()})

    def effective(self) -> Tree:
        """Weights times mask, float32."""
        return self.weights | {name: self.weights[name] * factor for name, factor in self.factors.items()}

    @property
    def factors(self) -> Tree:
        """What multiplies the weights, float32; {} if nothing does."""
        return {} if self.filled else as_factors(self.mask)

    def to_bytes(self) -> bytes:
        """The file's content; the same training gives the same bytes."""
        tensors = {f"weights/{name}": np.asarray(array, np.float32) for name, array in self.weights.items()}
        tensors |= {f"stats/{name}": np.asarray(array) for name, array in self.state.items()}
        document = {
            "format": FORMAT,
            "kind": KIND,
            "config": self.config.to_dict(),
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "image_shape": list(self.image_shape),
            "metrics": self.metrics,
            "versions": self.versions,
            **({"content": self.content} if self.content else {}),
            **({"filled": True} if self.filled else {}),
        }
        rows, _ = to_document(self.parameters, {})
        return seal(document | rows, tensors | packed(self.mask))

    def save(self, path: str | Path) -> Path:
        """Write the file; a reader never sees half of it. Overwrites."""
        write_atomic(Path(path), self.to_bytes())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> TrainedWeights:
        """Read and verify the weights of a training.

        Raises:
            BadFileError: the file is missing, truncated, altered, foreign or of a newer format.
        """
        path = Path(path)
        return cls.from_bytes(read_bytes(path, "trained weights of supermask"), path)

    @classmethod
    def from_bytes(cls, data: bytes, path: Path) -> TrainedWeights:
        """Return what `to_bytes` wrote; `path` is for messages.

        Raises:
            BadFileError: see `load`.
        """
        return cls.unpack(*unseal(data, path, FORMAT, KIND), path)

    @classmethod
    def unpack(cls, document: dict[str, Any], tensors: Tree, path: Path) -> TrainedWeights:
        """The same from what `unseal` returned.

        Raises:
            BadFileError: something is missing or does not fit.
        """
        try:
            if document["kind"] != KIND:
                raise ValueError(f"it holds {document['kind']}")
            shapes, groups = read_shapes(document), grouped(tensors, (*GROUPS, "stats", "weights"))
            check_metrics(document)
            weights = {name: groups["weights"][name].reshape(shape) for name, shape in shapes.items()}
            if len(groups["weights"]) != len(shapes) or any(array.dtype != np.float32 for array in weights.values()):
                raise ValueError("its weights are not those of its layers")
            masked = {name for group in GROUPS for name in groups[group]}
            return cls(
                config=config_class(document["config"]).from_dict(document["config"]),
                image_shape=tuple(document["image_shape"]),
                weights=weights,
                mask=unpacked(groups, {name: shapes[name] for name in shapes if name in masked}),
                state=groups["stats"],
                metrics=document["metrics"],
                versions=document["versions"],
                content=read_content(document),
                path=path,
                parameters=from_document(document, {}, shapes)[0],
                filled=document.get("filled") is True,
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, SupermaskError) as error:
            raise BadFileError(f"{path} is not a whole file of trained weights: {one_line(error)}") from error
