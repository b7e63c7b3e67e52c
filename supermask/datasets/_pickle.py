"""Pickles of arrays, strings and containers, read without trusting them.

The python layout of CIFAR is pickled, and a pickle may call whatever it names. Here, the few NumPy names that rebuild
arrays are replaced by objects of this module, and every other name is refused: nothing that a file names is imported or
called, and nothing reaches NumPy unchecked.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from supermask.errors import BadFileError, one_line

_NUMBERS = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)} | {"b1", "f4", "f8"}


def load_dict(data: bytes, path: Path) -> dict[str, Any]:
    """The dictionary pickled in `data`, the content of `path`. Keys become str; strings of Python 2 stay bytes.

    Raises:
        BadFileError: damaged, not a dictionary, or it names anything but arrays of numbers, strings and containers.
    """
    try:
        value = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        if not isinstance(value, dict):
            raise pickle.UnpicklingError(f"it holds a {type(value).__name__}, not a dictionary")
        return {_text(key): item.value if isinstance(item, _Array) else item for key, item in value.items()}
    except Exception as error:  # the reader fails in all kinds of ways on bytes that are not a pickle
        raise BadFileError(f"{path} is not a pickle that can be read safely: {one_line(error)[:200]}") from error


_PythonUnpickler: Any = pickle._Unpickler


class _Unpickler(_PythonUnpickler):
    """The reader written in Python: the one in C allocates gigabytes if a damaged file names a large memo index."""

    dispatch: ClassVar = dict(_PythonUnpickler.dispatch)

    def load_bytearray8(self) -> None:
        """Read what is there; the original first allocates as much memory as a damaged file asks for."""
        (length,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(length)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def find_class(self, module: str, name: str) -> Any:
        stand_ins: dict[str, Callable[..., Any]] = {
            "numpy ndarray": _refuse,  # named as an argument of _reconstruct, never called
            "numpy dtype": _Dtype,
            "numpy.core.multiarray _reconstruct": _Array,
            "numpy._core.multiarray _reconstruct": _Array,
            "numpy.core.numeric _frombuffer": _array,
            "numpy._core.numeric _frombuffer": _array,
            "_codecs encode": _latin1,  # how Python 3 writes bytes for Python 2
        }
        function = stand_ins.get(f"{module} {name}")
        if function is None:
            raise pickle.UnpicklingError(
                f"it names {module + '.' + name!r}; only arrays, strings and containers are read"
            )
        return _StandIn(function)


class _StandIn:
    """A function that a pickle can call but not change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes a function")


class _Dtype:
    """Stands for `numpy.dtype(code)` and its state; refuses everything but plain numbers."""

    __slots__ = ("code",)

    def __init__(self, code: Any, *_flags: Any) -> None:
        self.code = _text(code)
        if self.code.lstrip("<>|=") not in _NUMBERS:
            raise pickle.UnpicklingError(f"it holds an array of type {self.code!r}; only numbers are read")

    def __setstate__(self, state: Any) -> None:
        order = _text(state[1])
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"it holds an array of byte order {order!r}")
        self.code = order + self.code.lstrip("<>|=")


class _Array:
    """Stands for what `_reconstruct` makes: an empty array, which its state fills."""

    __slots__ = ("value",)

    def __init__(self, *_args: Any) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(data, (bytes, bytearray)):
        raise pickle.UnpicklingError("it holds an array of something other than numbers")
    return np.frombuffer(data, np.dtype(dtype.code)).reshape(shape, order=order)


def _latin1(text: Any, codec: Any) -> bytes:
    if codec not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"it encodes a string as {codec!r}")
    return _text(text).encode("latin1")


def _refuse(*_args: Any) -> Any:
    raise pickle.UnpicklingError("it calls numpy.ndarray")


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise pickle.UnpicklingError(f"it has a {type(value).__name__} where a string belongs")
    return value
