"""Ticket: the result of a search in one file, recipe + seed + mask.

The file is safetensors. A binary mask is packed, one bit per weight in little bit order (`bits/NAME`), one of whole
numbers in as few bits as they need (`small/NAME`); any other is stored as it is (`mask/NAME`); batch statistics and
embedded weights likewise (`stats/NAME`, `weights/NAME`). One JSON document in the metadata says everything else and
seals it, see `storage.container`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from supermask.config import SearchConfig
from supermask.errors import BadFileError, SupermaskError, one_line
from supermask.resolve import make_method
from supermask.storage.atomic import read_bytes, write_atomic
from supermask.storage.container import seal, unseal
from supermask.types import Shapes, Tree
from supermask.weights import inits
from supermask.weights.layers import (
    GROUPS,
    as_factors,
    check_metrics,
    density_of,
    grouped,
    layer_rows,
    mask_kind,
    packed,
    read_shapes,
    unpacked,
)
from supermask.weights.shapes import fingerprint, maskable

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Ticket:
    """One found mask and what is needed to use it.

    Attributes:
        config: the search, with nothing left to a recipe and a single seed.
        shapes: of all parameters.
        image_shape: (height, width, channels) of the images it was searched on.
        mask: maskable parameters only; the dtype says its kind, see `Method.harden`.
        state: batch statistics, {} for networks without batch norm.
        fingerprint: of the frozen weights, see `fingerprint`.
        metrics: what the search recorded: loss, train_accuracy, val_accuracy, epochs; of a sampled mask of a search
            that was stopped also val_samples, the draws that val_accuracy is the mean of.
        transforms: whether the method makes more than a product of mask and weights, so that it is needed.
        versions: of the libraries that made it.
        embedded: the weights themselves, if they were put into the file.
        path: the file it was loaded from.
    """

    config: SearchConfig
    shapes: Shapes
    image_shape: tuple[int, ...]
    mask: Tree
    state: Tree
    fingerprint: dict[str, str]
    metrics: dict[str, float]
    transforms: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    embedded: Tree | None = None
    path: Path | None = None

    @property
    def density(self) -> float:
        """Fraction of maskable weights kept; for a sampled mask the expected one."""
        return density_of(self.mask)

    @property
    def kind(self) -> str:
        """binary, signed, whole (coats and the like), continuous or sampled; told from the mask's dtype."""
        return mask_kind(self.mask)

    @property
    def bits_per_parameter(self) -> float:
        """Entropy of the mask's values over all layers plus log2(n) / n for their frequency (Isik et al. 2023).

        What sending the mask takes with an ideal code: of a sampled mask one sample, of a continuous one the floats.
        """
        if self.kind == "continuous":
            return 32.0
        total = sum(array.size for array in self.mask.values())
        if self.kind == "sampled":
            shares = np.array([self.density, 1 - self.density])
        else:
            values = np.concatenate([array.ravel().astype(np.int8) for array in self.mask.values()])
            shares = np.unique(values, return_counts=True)[1] / total
        shares = shares[shares > 0]
        return float(-(shares * np.log2(shares)).sum() + math.log2(total) / total)

    def layers(self) -> list[dict[str, Any]]:
        """One row per maskable parameter: name, shape, kept, total, density."""
        return layer_rows(self.mask)

    def weights(self) -> Tree:
        """The frozen weights, drawn again or embedded, verified against the fingerprint.

        Raises:
            BadFileError: they are not those of the search; the message names the first layer that differs.
        """
        if self.embedded is None:
            weights = inits.of_config(self.config, self.config.seed, self.shapes)
        else:
            weights = self.embedded
        found = fingerprint(weights)
        for name in self.shapes:
            if name not in found or found[name] != self.fingerprint.get(name):
                raise BadFileError(
                    f"the weights of {name} are not those of {self.path or 'the ticket'}: their fingerprint differs"
                )
        return weights

    def effective(self) -> Tree:
        """Effective weights, float32: the frozen weights times the (expected) mask."""
        weights, mask = self.weights(), as_factors(self.mask)
        chosen = {name: weights[name] for name in mask}
        if self.transforms:
            product = make_method(self.config).effective(chosen, mask)
        else:
            product = {name: chosen[name] * mask[name] for name in mask}
        return weights | {name: np.asarray(product[name], np.float32) for name in mask}

    def for_training(self) -> tuple[Tree, Tree]:
        """(weights, mask as float32) that weight training starts from and keeps.

        A sampled mask is taken where a weight is kept with probability 1/2 or more. Where the method makes more of mask
        and weights than their product, the effective weights are trained, and the mask says which are not zero.
        """
        if self.kind == "sampled":
            return self.weights(), {name: (array >= 128).astype(np.float32) for name, array in self.mask.items()}
        if self.transforms:
            return self.effective(), {name: (array != 0).astype(np.float32) for name, array in self.mask.items()}
        return self.weights(), as_factors(self.mask)

    def embed_weights(self) -> Ticket:
        """The same ticket with its weights in the file, for readers that cannot draw them."""
        return replace(self, embedded=self.weights())

    def to_bytes(self) -> bytes:
        """The file's content; the same ticket gives the same bytes."""
        tensors = {f"stats/{name}": np.asarray(array) for name, array in self.state.items()}
        tensors |= {f"weights/{name}": array for name, array in (self.embedded or {}).items()}
        tensors |= packed(self.mask)
        document = {
            "format": FORMAT,
            "config": self.config.to_dict(),
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "image_shape": list(self.image_shape),
            "fingerprint": self.fingerprint,
            "metrics": self.metrics,
            "transforms": self.transforms,
            "versions": self.versions,
        }
        return seal(document, tensors)

    def save(self, path: str | Path) -> Path:
        """Write the file; a reader never sees half of it. Overwrites."""
        write_atomic(Path(path), self.to_bytes())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Ticket:
        """Read and verify a ticket.

        Raises:
            BadFileError: the file is missing, truncated, altered, foreign or of a newer format.
        """
        path = Path(path)
        if path.is_dir() and (inside := sorted(path.glob("ticket-s*.safetensors"))):
            raise BadFileError(f"{path} is a run folder; give one of its tickets, such as {inside[0]}")
        document, tensors = unseal(read_bytes(path, "a ticket of supermask"), path, FORMAT)
        if kind := document.get("kind"):
            raise BadFileError(f"{path} holds {kind}; it should be a ticket")
        try:
            return _assemble(document, tensors, path)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, SupermaskError) as error:
            raise BadFileError(f"{path} is not a whole ticket: {one_line(error)}") from error


def _assemble(document: dict[str, Any], tensors: Tree, path: Path) -> Ticket:
    shapes, groups = read_shapes(document), grouped(tensors, (*GROUPS, "stats", "weights"))
    mask = unpacked(groups, maskable(shapes))
    if not mask:
        raise ValueError("it has no mask")
    check_metrics(document)
    if not isinstance(document["fingerprint"], dict):
        raise ValueError("its fingerprint is not an object")
    samples = document["metrics"].get("val_samples", 1)
    if type(samples) is not int or samples < 1:
        raise ValueError(f"its val_samples is {samples}")
    return Ticket(
        config=SearchConfig.from_dict(document["config"]),
        shapes=shapes,
        image_shape=tuple(document["image_shape"]),
        mask=mask,
        state=groups["stats"],
        fingerprint=document["fingerprint"],
        metrics=document["metrics"],
        transforms=document["transforms"],
        versions=document["versions"],
        embedded=groups["weights"] or None,
        path=path,
    )
