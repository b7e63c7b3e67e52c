"""Arrays as people store them, made images of uint8 and labels of int32; what cannot be told is refused by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from supermask.datasets._check import note
from supermask.errors import BadFileError

_MAX_CLASSES = 1 << 16
_LEAST = 16  # floats with fractions that end below this, but above 1, are on no scale that we know

Named = Mapping[str, np.ndarray]


def images_of(arrays: Named, source: object) -> dict[str, np.ndarray]:
    """Images of several splits as uint8 (n, height, width, channels).

    Whole numbers from 0 to 255 stay as they are, bool is 0 and 255. Floats are multiplied by 255 if they are from 0 to
    1 in all splits, and rounded. Channels that can be told to come first are moved to the end. Lines on stderr say so.

    Args:
        arrays: name, for the messages -> array.
        source: the file that the messages name.

    Raises:
        BadFileError: another shape, type or range, or floats on a scale that differs or cannot be told.
    """
    for name, array in arrays.items():
        _check_images(array, f"{source}: {name}")
    moved = [name for name, array in arrays.items() if _channels_come_first(array)]
    if moved:
        note(f"{source}: the channels of {', '.join(moved)} come first, and are moved to the end")
    arranged = {name: np.moveaxis(array, 1, -1) if name in moved else array for name, array in arrays.items()}
    scale = _scale({name: array for name, array in arrays.items() if array.dtype.kind == "f"}, source)
    return {
        name: _to_bytes(array if array.ndim == 4 else array[..., None], scale, f"{source}: {name}")
        for name, array in arranged.items()
    }


def labels_of(arrays: Named, source: object) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Labels of several splits as int32 (n,), and the names of the classes; the first split is train.

    Whole numbers of any type, also float and bool, are the classes 0, 1, ... up to the largest label of train. Strings
    are classes in sorted order. A row of zeros with a single 1 is the class of its column. (n, 1) is read as (n,).

    Args:
        arrays, source: see `images_of`.

    Raises:
        BadFileError: another shape or type, a label that is negative or no whole number, or a string that train lacks.
    """
    flat = {name: array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array for name, array in arrays.items()}
    (train, first), *_ = flat.items()
    for name, array in flat.items():
        if array.ndim not in (1, 2):
            raise BadFileError(f"{source}: {name} has the shape {array.shape}; labels must be (n,) or (n, 1)")
        if (array.dtype.kind in "US") != (first.dtype.kind in "US"):
            raise BadFileError(
                f"{source}: {train} is {first.dtype} and {name} is {array.dtype}; both must be numbers, or both strings"
            )
    if first.dtype.kind in "US":
        return _of_strings(flat, train, source)
    columns = {name: array.shape[1] for name, array in flat.items() if array.ndim == 2}
    if len(set(columns.values())) > 1:
        found = ", ".join(f"{name} has {count} columns" for name, count in columns.items())
        raise BadFileError(f"{source}: {found}; there must be one per class")
    labels = {name: _of_numbers(array, f"{source}: {name}") for name, array in flat.items()}
    count = columns.get(train) or int(labels[train].max(initial=0)) + 1
    return labels, tuple(map(str, range(count)))


def _check_images(array: np.ndarray, what: str) -> None:
    if array.dtype.kind not in "biuf":
        raise BadFileError(f"{what} has the type {array.dtype}; it must be an array of numbers")
    if array.ndim not in (3, 4):
        raise BadFileError(
            f"{what} has the shape {array.shape}; it must be (n, height, width) or (n, height, width, channels)"
        )
    if array.size == 0:
        raise BadFileError(f"{what} has the shape {array.shape}: it has no images")
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] > 4 >= array.shape[2]:
        raise BadFileError(f"{what} has the shape {array.shape}; channels come last: (n, height, width, channels)")


def _channels_come_first(array: np.ndarray) -> bool:
    """Whether the shape can be read in no other way: nobody has images of 3 rows with more than 4 channels."""
    return array.ndim == 4 and array.shape[1] in (1, 3, 4) and min(array.shape[2:]) > 4


def _scale(floats: Named, source: object) -> int:
    """What floats are multiplied by: 255 if all are from 0 to 1."""
    highs = {}
    for name, array in floats.items():
        low, highs[name] = float(array.min()), float(array.max())  # NaN if there is one
        if not (low >= 0 and highs[name] <= 255):
            raise BadFileError(
                f"{source}: {name} is {array.dtype} from {low:g} to {highs[name]:g}; "
                "floats must be from 0 to 1 or from 0 to 255, before any normalisation"
            )
    if not floats:
        return 1
    smallest, largest = min(highs, key=highs.__getitem__), max(highs, key=highs.__getitem__)
    if highs[largest] <= 1:
        note(f"{source}: {', '.join(floats)}: floats from 0 to 1, multiplied by 255 and rounded")
        return 255
    if highs[smallest] <= 1:
        raise BadFileError(
            f"{source}: {smallest} goes up to {highs[smallest]:g} and {largest} to {highs[largest]:g}; "
            "floats must be from 0 to 1, or from 0 to 255, in all splits"
        )
    if highs[largest] < _LEAST and not all(_is_whole(array) for array in floats.values()):
        raise BadFileError(
            f"{source}: {largest} is {floats[largest].dtype} and goes up to {highs[largest]:g}; "
            "floats must be from 0 to 1 or from 0 to 255"
        )
    note(f"{source}: {', '.join(floats)}: floats from 0 to 255, rounded")
    return 1


def _to_bytes(array: np.ndarray, scale: int, what: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind in "iu" and not 0 <= array.min() <= array.max() <= 255:
        raise BadFileError(
            f"{what} is {array.dtype} from {array.min()} to {array.max()}; whole numbers must be from 0 to 255"
        )
    factor = {"f": scale, "b": 255}.get(array.dtype.kind, 1)
    images = np.empty(array.shape, np.uint8)
    for source, target in zip(array, images, strict=True):  # image by image, because a copy of all would be large
        target[...] = np.rint(source * factor)
    return images


def _is_whole(array: np.ndarray) -> bool:
    return all(np.array_equal(part, np.rint(part)) for part in array)


def _of_strings(flat: Named, train: str, source: object) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    texts = {name: np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array for name, array in flat.items()}
    classes = np.unique(texts[train])
    for name, array in texts.items():
        if array.ndim != 1:
            raise BadFileError(f"{source}: {name} has the shape {array.shape}; labels must be (n,) or (n, 1)")
        unknown = array[~np.isin(array, classes)]
        if len(unknown):
            raise BadFileError(f"{source}: {name} has the label {str(unknown[0])[:100]!r}, which {train} lacks")
    labels = {name: np.searchsorted(classes, array).astype(np.int32) for name, array in texts.items()}
    return labels, tuple(map(str, classes))


def _of_numbers(array: np.ndarray, what: str) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise BadFileError(f"{what} is {array.dtype}; labels must be whole numbers or strings")
    if array.ndim == 2:
        if not (((array == 0) | (array == 1)).all() and (array.sum(1) == 1).all()):
            raise BadFileError(
                f"{what} has the shape {array.shape}, and not a single 1 in each row; labels must be (n,), (n, 1) or "
                "one-hot"
            )
        return array.argmax(1).astype(np.int32)
    if array.dtype.kind == "f":
        array = array.astype(np.float64)
        broken = array[~(np.rint(array) == array)]  # NaN, too
        if len(broken):
            raise BadFileError(f"{what} has the label {broken[0]}; labels must be whole numbers")
    if len(array) and not (array.min() >= 0 and array.max() < _MAX_CLASSES):
        bad = array.min() if array.min() < 0 else array.max()
        raise BadFileError(
            f"{what} has the label {bad}; labels start at 0, and there are at most {_MAX_CLASSES} classes"
        )
    return array.astype(np.int32)
