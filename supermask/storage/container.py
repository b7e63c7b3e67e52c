"""A safetensors file whose metadata is one JSON document with a SHA-256 of the document and all tensors.

safetensors has no checksum of its own: a flipped bit in an array would go unnoticed.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from supermask.errors import BadFileError, one_line
from supermask.types import Tree


def seal(document: dict[str, Any], tensors: Tree) -> bytes:
    """The content of the file; the same document and tensors always give the same bytes.

    Args:
        document: JSON values; `format` is an int of at least 1.
        tensors: arrays by name.
    """
    return save_tensors(tensors, {"supermask": _canonical(document | {"sha256": _digest(document, tensors)})})


def is_sealed(data: bytes) -> bool:
    """Whether the content of a safetensors file says that supermask sealed it."""
    try:
        return "supermask" in json.loads(_header(data))["__metadata__"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def unseal(data: bytes, path: Path, newest: int, what: str = "ticket") -> tuple[dict[str, Any], Tree]:
    """The document and the tensors in the content of a sealed file.

    Args:
        data: the content.
        path: where it was read from, for messages.
        newest: the highest format that the caller can read.
        what: what kind of file it should be, for messages.

    Raises:
        BadFileError: it is truncated, was altered, is not such a file or has a format above `newest`.
    """
    try:
        text = json.loads(_header(data))["__metadata__"]["supermask"]
        document = json.loads(text)
        version = document["format"]
        if type(version) is not int or version < 1:
            raise ValueError(version)
        if version > newest and document.get("kind", "ticket") == what:
            raise BadFileError(f"{path} has {what} format {version}; this supermask reads up to {newest}: upgrade it")
        digest, tensors = document.pop("sha256"), load_tensors(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadFileError(f"{path} is not a {what} written by supermask, or its header is damaged") from error
    except SafetensorError as error:
        raise BadFileError(f"{path} is truncated or damaged: {one_line(error)}") from error
    if digest != _digest(document, tensors) or text != _canonical(document | {"sha256": digest}):
        raise BadFileError(f"{path} was altered after it was written: its SHA-256 does not match")
    return document, tensors


def _header(data: bytes) -> str:
    """What safetensors writes before the tensors.

    Raises:
        ValueError: the file is too short for it, or it is no text.
    """
    size = int.from_bytes(data[:8], "little")
    if size <= len(data) - 8:
        # Decoded here: of bytes, json guesses UTF-16 or UTF-32 as well, and makes much text of damaged ones. The error
        # of `decode` is dropped: it holds a copy of what it could not decode, for as long as another is raised from it.
        with suppress(UnicodeDecodeError):
            return data[8 : 8 + size].decode()
    raise ValueError("no header of a safetensors file")


def _canonical(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _digest(document: dict[str, Any], tensors: Tree) -> str:
    digest = hashlib.sha256(_canonical(document).encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
