"""Images and labels in the Parquet files of a Hugging Face dataset.

The metadata `huggingface` of a file's schema says which columns are images and classes; without it, names and types do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from supermask.datasets._check import counted, note, reading
from supermask.datasets._images import Encoded
from supermask.errors import BadFileError, SupermaskError, listed, one_line

_IMAGES = ("image", "img", "images", "pixels")
_LABELS = ("label", "labels", "fine_label", "class", "target")


@dataclass(frozen=True)
class Columns:
    """The columns that are read, and the names of the classes if the schema has them."""

    image: str
    label: str
    classes: tuple[str, ...] | None


def columns_of(path: Path) -> Columns:
    """The columns of images and labels; a line on stderr says which were chosen among several, and what is left out.

    Raises:
        SupermaskError: pyarrow is missing.
        BadFileError: not a Parquet file, or one in another layout.
    """
    with _opened(path) as file:
        schema = file.schema_arrow
    features = _features(schema.metadata or {}, path)
    images = _of_type(features, "Image") or _like_images(schema)
    labels = _of_type(features, "ClassLabel") or [name for name in _LABELS if name in schema.names]
    image = _one(images, _IMAGES, f"{path} has no column of images", schema.names)
    label = _one(labels, _LABELS, f"{path} has no column of labels", schema.names)
    rest = [name for name in schema.names if name not in (image, label)]
    if rest:
        note(f"{path.parent}: {image} and {label} are read; left out {counted(len(rest), 'column')}: {listed(rest)}")
    names = features.get(label, {}).get("names")
    return Columns(image, label, tuple(map(str, names)) if isinstance(names, list) and names else None)


def read_shards(paths: Sequence[Path], columns: Columns) -> tuple[list[Encoded], np.ndarray]:
    """The images, as they are encoded, and the labels of the files of one split.

    Raises:
        BadFileError: a file is damaged or in another layout than `columns`, an image or label is missing, or a label
            is out of range.
    """
    images: list[Encoded] = []
    labels = []
    for path in paths:
        cells, found = _read(path, columns)
        images += [_encoded(cell, f"{path}: row {row}") for row, cell in enumerate(cells)]
        labels.append(_checked(np.array(found), columns, path))
    kinds = {part.dtype.kind in "US" for part in labels}
    if len(kinds) > 1:
        raise BadFileError(f"{paths[0].parent}: {columns.label} is a number in some files and a string in others")
    return images, np.concatenate(labels)


def _read(path: Path, columns: Columns) -> tuple[list[Any], list[Any]]:
    names = [columns.image, columns.label]
    with _opened(path) as file:
        has = file.schema_arrow.names
        lacking = [name for name in names if name not in has]
        if lacking:
            raise BadFileError(
                f"{path} lacks the column {' and '.join(lacking)} (it has {listed(has) or 'nothing'}); "
                "all files need the same two"
            )
        _check_type(file.schema_arrow.field(columns.label), path)
        cells: tuple[list[Any], list[Any]] = [], []
        for batch in file.iter_batches(columns=names, batch_size=256):
            for name, column in zip(names, cells, strict=True):
                column += batch.column(name).to_pylist()
    if not cells[0]:
        raise BadFileError(f"{path} has no rows")
    return cells


def _check_type(field: Any, path: Path) -> None:
    import pyarrow as pa

    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    known = (
        pa.types.is_integer,
        pa.types.is_boolean,
        pa.types.is_floating,
        pa.types.is_string,
        pa.types.is_large_string,
    )
    if not any(is_kind(kind) for is_kind in known):
        raise BadFileError(
            f"{path}: {field.name} is {field.type}; labels are whole numbers or strings, one for each image"
        )


def _checked(labels: np.ndarray, columns: Columns, path: Path) -> np.ndarray:
    if labels.dtype == object:
        row = next(row for row, label in enumerate(labels) if label is None)
        raise BadFileError(f"{path}: row {row} has no {columns.label}")
    if columns.classes is None or (labels.dtype.kind == "i" and (labels == -1).all()):
        return labels
    if labels.dtype.kind in "US":
        raise BadFileError(
            f"{path}: {columns.label} holds strings, but its classes have names, so it must hold numbers"
        )
    last = len(columns.classes) - 1
    bad = labels[~np.isin(labels, np.arange(last + 1))]
    if len(bad):
        raise BadFileError(
            f"{path} has the {columns.label} {bad[0]}; with {last + 1} classes, it goes from 0 to {last}"
        )
    return labels


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise SupermaskError(f"Parquet files need {error.name}: pip install 'supermask[parquet]'") from error
    with reading(path), path.open("rb") as raw:
        try:
            with ParquetFile(raw, page_checksum_verification=True) as file:
                yield file
        except SupermaskError:
            raise
        except Exception as error:  # the reader fails in many ways on damaged files
            raise BadFileError(f"{path} is not a Parquet file that can be read: {one_line(error)[:200]}") from error


def _features(metadata: Mapping[bytes, bytes], path: Path) -> dict[str, Any]:
    """Column -> what the metadata says of it."""
    try:
        found = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        return {name: feature for name, feature in found.items() if isinstance(feature, dict)}
    except (ValueError, AttributeError, RecursionError) as error:
        raise BadFileError(f"{path} has metadata 'huggingface' that cannot be read: {one_line(error)[:200]}") from error


def _of_type(features: Mapping[str, Any], kind: str) -> list[str]:
    return [name for name, feature in features.items() if feature.get("_type") == kind]


def _like_images(schema: Any) -> list[str]:
    """Columns of structs with bytes and path, or of bytes."""
    import pyarrow as pa

    found = []
    for field in schema:
        kind = field.type
        parts = [kind.field(index).name for index in range(kind.num_fields)] if pa.types.is_struct(kind) else []
        if "bytes" in parts or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            found.append(field.name)
    return found


def _one(found: Sequence[str], usual: Sequence[str], missing: str, names: Sequence[str]) -> str:
    """The only column, or the first of the usual names."""
    there = [name for name in found if name in names]
    known = [name for name in usual if name in there]
    if not there:
        raise BadFileError(
            f"{missing} (it has {listed(names) or 'nothing'}); a column image must hold structs of bytes and path, "
            "and a column label whole numbers or strings"
        )
    if len(there) > 1 and not known:
        raise BadFileError(f"{missing.replace('no column', 'several columns')}: {listed(there)}; call one {usual[0]}")
    return known[0] if known else there[0]


def _encoded(cell: Any, where: str) -> Encoded:
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if isinstance(data, bytes) and data:
        return Encoded(where, data)
    path = cell.get("path") if isinstance(cell, dict) else None
    only = f", only the path {str(path)[:100]!r}" if path else ""
    raise BadFileError(f"{where} has no bytes of an image{only}; images must lie in the file itself")
