"""The Parquet files of a Hugging Face dataset: which split each belongs to, and whether one is missing.

Source of the layout: https://huggingface.co/docs/datasets/repository_structure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from supermask.datasets._check import counted, note, reading
from supermask.errors import BadFileError, listed

WORDS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "eval", "evaluation"),
    "validation": ("validation", "valid", "val", "dev"),
}
"""Field of `Dataset` -> the words in the name of a file or folder that say this split."""

_SHARD = re.compile(r"(.*)-(\d{3,})-of-(\d{3,})")


def shards_of(root: Path) -> dict[str, list[Path]]:
    """Split -> its files, sorted; a line on stderr says how many files belong to no split.

    The name of a file says its split, as train-00000-of-00002.parquet does, or that of its folder, as in
    test/0000.parquet.

    Raises:
        BadFileError: no files, none for train, several datasets, or a shard is missing.
    """
    with reading(root):
        if not root.is_dir():
            raise BadFileError(f"{root} {'is not a folder' if root.exists() else 'does not exist'}")
        everything = sorted(root.rglob("*.parquet"))
    files = [path for path in everything if not _is_hidden(path.relative_to(root))]
    if not files:
        raise BadFileError(f"{root} has no Parquet files (.parquet)")
    found: dict[str, dict[Path, list[Path]]] = {}
    if len(files) < len(everything):
        note(f"{root}: left out {counted(len(everything) - len(files), 'hidden Parquet file')}")
    odd = []
    for path in files:
        part, place = _split_of(path, root)
        if part is None:
            odd.append(str(path.relative_to(root)))
        else:
            found.setdefault(part, {}).setdefault(place, []).append(path)
    if "train" not in found:
        raise BadFileError(
            f"{root} has no files of train (it has {listed([str(path.relative_to(root)) for path in files])}); "
            "names must begin with train, validation or test, as train-00000-of-00001.parquet does"
        )
    places = sorted({place for shards in found.values() for place in shards})
    if len(places) > 1:
        raise BadFileError(
            f"{root} has several datasets, in {listed([str(place.relative_to(root)) for place in places])}; "
            "give the path of one of them"
        )
    if odd:
        note(f"{root}: left out {counted(len(odd), 'Parquet file')} of no split: {listed(odd)}")
    shards = {part: [path for paths in found[part].values() for path in paths] for part in WORDS if part in found}
    for paths in shards.values():
        _check_complete(paths)
    return shards


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "__")) for part in path.parts)


def _split_of(path: Path, root: Path) -> tuple[str | None, Path]:
    """The split of a file, and the folder of its dataset."""
    folder = path.parent
    for name, place in ((path.stem, folder), (folder.name, folder.parent)):
        words = re.split(r"[-._ \d]+", name.lower()) if place.is_relative_to(root) else []
        parts = {part for part, known in WORDS.items() for word in words if word in known}
        if len(parts) == 1:
            return parts.pop(), place
    return None, folder


def _check_complete(paths: Sequence[Path]) -> None:
    """Raise a BadFileError if the names of shards say that there are more."""
    numbered = [(path, match) for path in paths if (match := _SHARD.match(path.stem))]
    totals = {match[3] for _, match in numbered}
    if len(totals) > 1:
        raise BadFileError(
            f"{paths[0].parent} has shards of {' and of '.join(sorted(totals))} files; keep one set of them"
        )
    there = {int(match[2]) for _, match in numbered}
    for path, match in numbered[:1]:
        lacking = [number for number in range(int(match[3])) if number not in there]
        if lacking:
            name = f"{match[1]}-{lacking[0]:0{len(match[2])}d}-of-{match[3]}"
            raise BadFileError(f"{path.parent} lacks {len(lacking):,} of {int(match[3]):,} files, such as {name}")
