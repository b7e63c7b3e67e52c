"""Next token in a file: `tokens:PATH` of text (its bytes), .npy (whole numbers) or .bin (unsigned 16 bits).

A .bin is what the prepare scripts of nanoGPT write.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from supermask.datasets._check import counted, note, reading
from supermask.datasets._sequences import sequences
from supermask.errors import BadFileError, UsageError, one_line
from supermask.types import Dataset, Split

INPUTS = "tokens"
EPOCHS = 10
AUGMENT = "none"
ARGUMENT = "path"

LENGTH = 128
"""Tokens of a sequence."""
PARTS = (8, 9, 10)
"""Tenths of the file where train, validation and test end."""
MOST = 1 << 20
"""Different tokens."""


def load(data_dir: Path, argument: str = "") -> Dataset:
    """Consecutive sequences of 128 tokens, each of which is to be followed by the next token of the file.

    The first eight tenths of the file are for training, the ninth for validation, the last for the test. What does not
    fill a sequence at the end of a part is left out, and said.

    Raises:
        UsageError: no path was given.
        BadFileError: the file is missing, holds no tokens, or is too short.
    """
    if not argument:
        raise UsageError("dataset tokens needs a file: tokens:PATH of .txt, .npy or .bin")
    path = Path(argument)
    found = _read(path)
    count = len(found) - 1
    ends = [count * tenths // 10 for tenths in PARTS]
    train, validation, test = (_split(found[start : end + 1]) for start, end in zip([0, *ends], ends, strict=False))
    if not min(len(train), len(validation), len(test)):
        raise BadFileError(
            f"{path} holds {counted(len(found), 'token')}; each tenth of it must hold {LENGTH + 1}, so at least "
            f"{10 * LENGTH + 10:,} are needed"
        )
    used = LENGTH * (len(train) + len(validation) + len(test)) + 1
    if used < len(found):
        note(f"{path}: {len(found) - used:,} of {len(found):,} tokens are left out, at the ends of the three parts")
    largest = int(found.max())
    names = [_name(i) for i in range(256)] if found.dtype == np.uint8 else [str(i) for i in range(largest + 1)]
    return sequences(train, test, names, validation=validation)


def _read(path: Path) -> np.ndarray:
    """The tokens in a file, in one dimension; bytes are uint8."""
    with reading(path):
        if path.suffix == ".npy":
            return _checked(path, _of_npy(path))
        size = path.stat().st_size
        if not size:
            raise BadFileError(f"{path} is empty; it should hold tokens")
        if path.suffix != ".bin":
            return np.fromfile(path, np.uint8)
        if size % 2:
            raise BadFileError(f"{path} has {size:,} bytes; a .bin holds tokens of 2 bytes each")
        return _checked(path, np.memmap(path, "<u2", "r"))


def _of_npy(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BadFileError(f"{path} is not a complete .npy file: {one_line(error)}") from error
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind not in "iu":
        raise BadFileError(
            f"{path} holds {getattr(array, 'dtype', type(array).__name__)} of shape {getattr(array, 'shape', '?')}; "
            "tokens are whole numbers in one dimension"
        )
    return array


def _checked(path: Path, tokens: np.ndarray) -> np.ndarray:
    if not len(tokens):
        raise BadFileError(f"{path} is empty; it should hold tokens")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= MOST:
        raise BadFileError(f"{path} has the token {low if low < 0 else high}; tokens go from 0 to {MOST - 1:,}")
    # Bytes in a .npy are tokens like any others: only text has names for them.
    return tokens.astype(np.int32)


def _split(tokens: np.ndarray) -> Split:
    """The sequences of a part, whose last token is only a target."""
    count = max(0, len(tokens) - 1) // LENGTH
    cut = (tokens[start : start + count * LENGTH].astype(np.int32).reshape(count, LENGTH) for start in (0, 1))
    return Split(*cut)


def _name(byte: int) -> str:
    return chr(byte) if 32 < byte < 127 else f"0x{byte:02x}"
