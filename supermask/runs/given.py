"""Given weights: read from a file, a run folder or a ticket, and matched to the parameters of a network.

A file has the names and shapes of supermask or those of PyTorch. Where each value of a state_dict belongs follows from
the torch exporter itself, which is applied to places in place of weights.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from supermask import registry
from supermask.config import SearchConfig
from supermask.config.files import FILES, result_file
from supermask.errors import BadFileError, UsageError, one_line
from supermask.runs.matching import Match, is_neutral
from supermask.storage.atomic import read_bytes
from supermask.storage.container import is_sealed, unseal
from supermask.ticket import FORMAT, Ticket
from supermask.types import Shapes, Tree
from supermask.weights.parameters import Parameters
from supermask.weights.trained import KIND, TrainedWeights


@dataclass(frozen=True)
class Given:
    """Weights that are frozen in place of random ones.

    Attributes:
        weights: of all parameters, float32.
        state: running statistics, float32; {} if the network's own are taken.
        notes: what was left out or changed, one line each.
    """

    weights: Tree
    state: Tree
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frame:
    """The network that weights must fit; to an exporter, a ticket whose values are their own places.

    Attributes:
        config: names the arch and the weights.
        statistics: shapes of its running statistics.
    """

    config: SearchConfig
    parameters: Parameters
    image_shape: tuple[int, ...]
    statistics: Shapes

    @property
    def shapes(self) -> Shapes:
        """Of all parameters."""
        return {name: found.shape for name, found in self.parameters.items()}

    @cached_property
    def places(self) -> Tree:
        """For each parameter and statistic, the place of each of its values among all of them."""
        start, found = 0, {}
        for name, shape in (self.shapes | self.statistics).items():
            size = int(np.prod(shape, dtype=np.int64))
            found[name] = np.arange(start, start + size).reshape(shape)
            start += size
        return found

    def effective(self) -> Tree:
        """The places of parameters, as an exporter asks for weights."""
        return {name: self.places[name] for name in self.parameters}

    @property
    def state(self) -> Tree:
        """The places of statistics, as an exporter asks for them."""
        return {name: self.places[name] for name in self.statistics}


def read_given(frame: Frame) -> Given:
    """Read the weights that a resolved config names.

    Raises:
        BadFileError: the file is missing, damaged, of another kind or was replaced, does not fit the network, or holds
            values that are not finite.
    """
    config = frame.config
    path = result_file(Path(str(config.weights)))
    data = read_bytes(path, FILES["weights"])
    digest = hashlib.sha256(data).hexdigest()
    if digest != config.weights_sha256:
        raise BadFileError(f"{path} has been replaced since this call began: call again")
    found = _Read.of(data, path)
    if found.state is None:
        frame = replace(frame, statistics={})
    given = fitted(found.tensors | (found.state or {}), frame)
    count = sum(array.size for array in given.weights.values())
    text = (
        f"note: {count:,} frozen weights are those of {path.name} (SHA-256 {digest[:16]}), {found.kind}; each ticket "
        f"holds them, in {4 * count:,} bytes"
    )
    return replace(given, notes=(text, *given.notes))


@dataclass(frozen=True)
class _Read:
    """What a file holds: tensors, running statistics (None to take the network's own), and its kind, for people."""

    tensors: Tree
    state: Tree | None
    kind: str

    @classmethod
    def of(cls, data: bytes, path: Path) -> _Read:
        if data[:2] == b"PK":
            return cls(_of_npz(data, path), {}, "arrays of an npz file")
        try:
            tensors = load_safetensors(data)
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadFileError(
                f"{path} cannot be read as safetensors or npz: {one_line(error)}; save a PyTorch state_dict by "
                "safetensors.torch.save_file"
            ) from error
        if not is_sealed(data):
            return cls(tensors, {}, "tensors of a safetensors file")
        document, tensors = unseal(data, path, FORMAT)
        if document.get("kind") == KIND:
            trained = TrainedWeights.unpack(document, tensors, path)
            return cls(trained.effective(), trained.state, "trained weights")
        # Batch statistics of a ticket belong to its mask, so the network's own are taken.
        return cls(Ticket.unpack(document, tensors, path).weights(), None, "the weights of a ticket, without its mask")


def _of_npz(data: bytes, path: Path) -> Tree:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise BadFileError(
            f"{path} cannot be read as npz: {one_line(error)}; save a PyTorch state_dict by safetensors.torch.save_file"
        ) from error


def fitted(found: Tree, frame: Frame) -> Given:
    """Match tensors to a network by their names.

    Raises:
        BadFileError: they do not fit, with every mismatch; or some are not finite.
    """
    expected, torch = _expected(found, frame), registry.load("exporters", "torch")
    added = torch.added(expected, frame.config) if expected is not frame.places else {}
    match = Match()
    size = sum(place.size for place in frame.places.values())
    values = np.zeros(size, np.float32)
    for name, places in expected.items():
        if name not in found:
            match.wrong.append(f"{name} {places.shape} is missing")
        elif found[name].shape != places.shape:
            match.wrong.append(f"{name} is {found[name].shape} there and {places.shape} in the network")
        else:
            values[places.ravel()] = match.as_float32(name, found[name]).ravel()
    for name in found.keys() - expected.keys():
        match.leave_out(name, found[name], is_neutral(name, found[name], expected, added))
    match.check(Path(str(frame.config.weights)), frame.config.arch)
    own = {name: values[places].reshape(places.shape) for name, places in frame.places.items()}
    weights = {name: own[name] for name in frame.parameters}
    return Given(weights, {name: own[name] for name in frame.statistics}, match.notes())


def _expected(found: Tree, frame: Frame) -> Tree:
    """The places by the names that a file should have: those of PyTorch if more of them are there, else our own."""
    own: Tree = frame.places
    theirs: Tree = {}
    with suppress(UsageError):  # a layer of a user's own network has no known layout: our names alone are known
        theirs = registry.load("exporters", "torch").tensors(frame)
    return theirs if len(theirs.keys() & found.keys()) > len(own.keys() & found.keys()) else own
