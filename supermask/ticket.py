"""Ticket: the result of a search in one file, recipe + seed + mask.

The file is in safetensors format. A binary mask is packed, one bit per weight in little bit order (`bits/NAME`), or per
weight that was searched for if the seed fixed some beforehand (`free/NAME`, see `weights.frozen`); a mask of whole
numbers takes as few bits as they need (`small/NAME`); any other mask is stored as it is (`mask/NAME`), and so
are batch statistics, the network's own values of parameters that are not drawn, and embedded weights (`stats/NAME`,
`own/NAME`, `weights/NAME`). One JSON document in the metadata holds
everything else and seals the file, see `storage.container`.
"""

from __future__ import annotations

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
from supermask.weights.frozen import pattern_of
from supermask.weights.layers import (
    GROUPS,
    as_factors,
    bits_per_parameter,
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
from supermask.weights.shapes import fingerprint

FORMAT = 2
"""A file is of format 1 if the rule by rank holds for all its parameters, see `weights.parameters`."""


@dataclass(frozen=True, eq=False)
class Ticket:
    """A mask found by a search, and everything that is needed to use it.

    Attributes:
        config: the config of the search, resolved, with a single seed.
        shapes: shapes of all parameters.
        image_shape: (height, width, channels) of the images used in the search.
        mask: masks of the maskable parameters; the dtype determines the kind, see `Method.harden`.
        state: batch statistics and all other arrays of the network; {} if there are none.
        fingerprint: fingerprint of the frozen weights, see `weights.shapes.fingerprint`.
        metrics: results of the search: loss, train_accuracy, val_accuracy, epochs. For a sampled mask from a search
            that was stopped also val_samples, the number of draws that val_accuracy is the mean of.
        transforms: whether effective weights are more than mask times weights, so that the method is needed.
        versions: versions of the libraries that made the ticket.
        content: fingerprints of the data and of the user's own code, see `runs.content`; {} in earlier tickets.
        embedded: the weights, if they are stored in the file, as those are that were given and not drawn.
        parameters: roles of parameters; for those left out, the rule by rank holds.
        own: the network's own values of parameters that are not drawn; those left out are as `inits.draw` says.
        path: the file that the ticket was loaded from.
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
    content: dict[str, str] = field(default_factory=dict)
    embedded: Tree | None = None
    path: Path | None = None
    parameters: Parameters = field(default_factory=dict)
    own: Tree = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", by_rank(self.shapes) | self.parameters)

    @property
    def density(self) -> float:
        """Fraction of maskable weights kept; for a sampled mask, the expected fraction."""
        return density_of(self.mask)

    @property
    def kind(self) -> str:
        """binary, signed, whole (such as coats), continuous or sampled, as the mask's dtype and values tell."""
        return mask_kind(self.mask)

    @property
    def bits_per_parameter(self) -> float:
        """Entropy of the mask's values over all layers, plus log2(n) / n for their frequencies (Isik et al. 2023).

        This is the cost of sending the mask with an ideal code: one sample of a sampled mask, the floats of a
        continuous one; of a mask with frozen weights what was searched for, since the seed tells the rest.
        """
        return bits_per_parameter(self.mask, self._frozen())

    def _frozen(self) -> Tree:
        """Which weights the seed fixed beforehand, see `weights.frozen`; {} if none."""
        return pattern_of(self.config, {name: array.shape for name, array in self.mask.items()})

    def layers(self) -> list[dict[str, Any]]:
        """Return one row per maskable parameter: name, shape, kept, total, density."""
        return layer_rows(self.mask)

    def weights(self) -> Tree:
        """Return the frozen weights, embedded or drawn again, after checking them against the fingerprint.

        Raises:
            BadFileError: they are not the weights of the search; the message names the first layer that differs.
        """
        if self.embedded is None:
            weights = inits.of_config(self.config, self.config.seed, self.parameters, self.own)
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
        """Return the effective weights, float32: the frozen weights times the mask (the expected mask if sampled)."""
        weights, mask = self.weights(), as_factors(self.mask)
        chosen = {name: weights[name] for name in mask}
        return weights | self._product(chosen, mask)

    def _product(self, weights: Tree, mask: Tree) -> Tree:
        """Return the effective weights of the maskable weights under a float32 mask."""
        product = make_method(self.config).effective(weights, mask) if self.transforms else None
        found = product or {name: weights[name] * mask[name] for name in mask}
        return {name: np.asarray(array, np.float32) for name, array in found.items()}

    def for_training(self) -> tuple[Tree, Tree]:
        """Return (weights that weight training starts from, float32 mask that it keeps frozen).

        A sampled mask keeps the weights whose probability is 1/2 or more. If effective weights are more than mask times
        weights, training starts from the effective weights, and the mask keeps those that are not zero.
        """
        weights, mask = self.weights(), as_factors(self.mask)
        if self.kind == "sampled":
            mask = {name: (array >= 128).astype(np.float32) for name, array in self.mask.items()}
        if not self.transforms:
            return weights, mask
        product = self._product({name: weights[name] for name in mask}, mask)
        return weights | product, {name: (array != 0).astype(np.float32) for name, array in mask.items()}

    def embed_weights(self) -> Ticket:
        """Return the same ticket with its weights stored in it, for readers that cannot draw them."""
        return replace(self, embedded=self.weights())

    def to_bytes(self) -> bytes:
        """Return the content of the file; the same ticket always gives the same bytes."""
        tensors = {f"stats/{name}": np.asarray(array) for name, array in self.state.items()}
        tensors |= {f"weights/{name}": array for name, array in (self.embedded or {}).items()}
        rows, own = to_document(self.parameters, self.own)
        tensors |= packed(self.mask, self._frozen()) | own
        document = {
            "format": FORMAT if rows or own else 1,
            "config": self.config.to_dict(),
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "image_shape": list(self.image_shape),
            "fingerprint": self.fingerprint,
            "metrics": self.metrics,
            "transforms": self.transforms,
            "versions": self.versions,
            **({"content": self.content} if self.content else {}),
        }
        return seal(document | rows, tensors)

    def save(self, path: str | Path) -> Path:
        """Write the file, replacing an existing one; readers never see it half written."""
        write_atomic(Path(path), self.to_bytes())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Ticket:
        """Read and verify a ticket.

        Raises:
            BadFileError: the file is missing, truncated, altered, not a ticket or of a newer format.
        """
        path = Path(path)
        if path.is_dir() and (inside := sorted(path.glob("ticket-s*.safetensors"))):
            raise BadFileError(f"{path} is a run folder; give one of its tickets, such as {inside[0]}")
        document, tensors = unseal(read_bytes(path, "a ticket of supermask"), path, FORMAT)
        return cls.unpack(document, tensors, path)

    @classmethod
    def unpack(cls, document: dict[str, Any], tensors: Tree, path: Path) -> Ticket:
        """Make the ticket of what `unseal` returned.

        Raises:
            BadFileError: the file is of another kind, or something in it is missing or does not fit.
        """
        if kind := document.get("kind"):
            raise BadFileError(f"{path} holds {kind}; it should be a ticket")
        try:
            return _assemble(document, tensors, path)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, SupermaskError) as error:
            raise BadFileError(f"{path} is not a complete ticket: {one_line(error)}") from error


def _assemble(document: dict[str, Any], tensors: Tree, path: Path) -> Ticket:
    shapes, groups = read_shapes(document), grouped(tensors, (*GROUPS, "stats", "weights", "own"))
    parameters, own = from_document(document, groups["own"], shapes)
    config, masked = SearchConfig.from_dict(document["config"]), masked_shapes(parameters)
    mask = unpacked(groups, masked, pattern_of(config, masked) if groups["free"] else None)
    if not mask:
        raise ValueError("it has no mask")
    check_metrics(document)
    if not isinstance(document["fingerprint"], dict):
        raise ValueError("its fingerprint is not an object")
    if document["config"].get("weights") and not groups["weights"]:
        raise ValueError("its weights were given, and it does not hold them")
    samples = document["metrics"].get("val_samples", 1)
    if type(samples) is not int or samples < 1:
        raise ValueError(f"its val_samples is {samples}")
    return Ticket(
        config=config,
        shapes=shapes,
        image_shape=tuple(document["image_shape"]),
        mask=mask,
        state=groups["stats"],
        fingerprint=document["fingerprint"],
        metrics=document["metrics"],
        transforms=document["transforms"],
        versions=document["versions"],
        content=read_content(document),
        embedded=groups["weights"] or None,
        path=path,
        parameters=parameters,
        own=own,
    )
