"""A user's own modules: the command finds them in the current folder, without letting them replace libraries."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


def forget_current_folder() -> None:
    """Take the current folder off the path, where `python -m` and an empty entry in PYTHONPATH put it.

    In front of the libraries, a user's random.py or copy.py would replace the one that a library needs. A folder that
    PYTHONPATH names stays.
    """
    here = _here()
    named = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if here not in named:
        sys.path[:] = [entry for entry in sys.path if entry not in ("", here)]


def import_own(name: str) -> Any:
    """Import a user's own module. From here on, the current folder is the last one that modules are looked for in.

    Raises:
        ImportError: the module cannot be imported, or the current folder has it and a library has its name.
    """
    here = _here()
    if here is not None:
        if here not in sys.path:
            sys.path.append(here)
        _require_own(Path(here), name.split("."))
    return importlib.import_module(name)


def _require_own(here: Path, parts: list[str]) -> None:
    """Check that a module that the current folder has is not hidden by a library of the same name."""
    mine = next((file for file in _files(here, parts) if file.is_file()), None)
    spec = importlib.util.find_spec(parts[0]) if mine else None
    if spec is None:
        return
    found = [spec.origin or "", *(spec.submodule_search_locations or ())]
    own = [path for path in (*_files(here, parts[:1]), here / parts[0]) if path.exists()]
    if not any(path.samefile(place) for path in own for place in found if os.path.exists(place)):
        what = f"library ({found[0]})" if os.path.isabs(found[0]) else "part of Python"
        raise ModuleNotFoundError(f"there is a {what} of that name, which goes before {mine}: rename yours")


def _files(folder: Path, parts: list[str]) -> tuple[Path, Path]:
    """The files that may hold a module."""
    return folder.joinpath(*parts[:-1], f"{parts[-1]}.py"), folder.joinpath(*parts, "__init__.py")


def _here() -> str | None:
    with suppress(FileNotFoundError):  # the current folder has been deleted
        return os.getcwd()
    return None
