"""What a run was made of, not what that was called: fingerprints of its data and of the user's own code.

A fingerprint is a readable part, such as a shape, and 16 hex digits of a SHA-256. They lie in `content.json` of a run
folder. Runs of earlier versions have none, and are taken as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from supermask.errors import BadFileError, RunFolderError
from supermask.runs.results import read_object

Content = dict[str, str]
"""What, such as "test images" or "arch code" -> its fingerprint."""

FILE = "content.json"
MOMENTS = ("means", "deviations")
FILES = "files"
"""The fingerprint of files. The same files hold the same data, but the same data may come from other files."""


def shortened(digest: str) -> str:
    """The part of a SHA-256 in hex that is kept: no accident makes two of these equal."""
    return digest[:16]


def combined(parts: Mapping[str, str]) -> str:
    """One fingerprint of several."""
    return shortened(hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest())


def read(folder: Path) -> Content:
    """Read the fingerprints of a run; {} if it has none.

    Raises:
        BadFileError: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        values = read_object(path, "the fingerprints of a run")
        if not all(isinstance(value, str) for value in values.values()):
            raise BadFileError(f"{path} holds a fingerprint that is not text")
    except BadFileError as error:
        raise BadFileError(f"{error}; --force starts over") from error
    return values


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Name what differs; what only one of the two knows is left out, and so is what only follows from other images."""
    found = []
    for key in here:
        if key == FILES or key not in there or there[key] == here[key]:
            continue
        one, other = (value[key].rpartition(" ")[0] for value in (there, here))
        said = f"{one} there, {other} here" if one != other else f"differ{'s' * (not key.endswith('s'))}"
        found.append(f"{key} {said}")
    others = [text for text in found if not text.startswith(MOMENTS)]
    return others or found


def incomparable(there: Mapping[str, str], here: Mapping[str, str]) -> set[str]:
    """The splits whose images are known by their pixels on one side and by their files on the other."""
    kinds = ("images", "files"), ("files", "images")
    return {
        key.removesuffix(" images").removesuffix(" files")
        for key in here
        for one, other in kinds
        if key.endswith(f" {one}") and key.replace(one, other) in there
    }


def check(folder: Path, here: Mapping[str, str], named: Path | None = None) -> None:
    """Check that a run was made of what is here; `named` is its folder for messages, if it is filled in a hidden one.

    Raises:
        RunFolderError: it was not; the message names what differs.
        BadFileError: its fingerprints are damaged.
    """
    if differing := differences(read(folder), here):
        raise RunFolderError(
            f"{named or folder} was made of other data or code ({'; '.join(differing)}); choose another --out, "
            "or --force"
        )
