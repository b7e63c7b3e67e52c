"""The user's folders: what ~ stands for, and where caches lie."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from supermask.errors import UsageError

NO_HOME = Path("~/.cache/supermask")
"""Stands for the cache folder of a user who has no home folder; nothing is ever written there."""


def expand(path: str | Path) -> Path:
    """Return a path that was typed, with a leading ~ or ~USER replaced by that user's home folder.

    Shells leave ~ alone in --out=~/x and in quotes, and nobody replaces it in an environment variable. A `Path` is
    returned as it is.

    Raises:
        UsageError: there is no such home folder, and nothing here has that name.
    """
    if isinstance(path, Path) or not path.startswith("~"):
        return Path(path)
    user, slash, rest = path.partition("/")
    found = _home(user[1:])
    if found is not None:
        return Path(found + slash + rest)
    if user != "~" and os.path.lexists(path):
        return Path(path)  # a file such as ~backup.npz
    whose = f"there is no user {user[1:]}" if user != "~" else "you have no home folder (HOME is not set)"
    raise UsageError(f"cannot use {path}: {whose}, so {user} has no meaning; give the path in full")


def cache_folder() -> Path | None:
    """Our folder in the user's cache; None if the user has no home folder and XDG_CACHE_HOME is no absolute path."""
    import platformdirs

    if _home("") is None and not os.path.isabs(os.environ.get("XDG_CACHE_HOME", "")):
        return None
    found = Path(platformdirs.user_cache_dir("supermask"))
    return found if found.is_absolute() else None  # a relative XDG_CACHE_HOME is to be ignored, says its standard


def _home(user: str) -> str | None:
    """The home folder of a user, or one's own if the name is ""; None if there is none."""
    named = os.environ.get("HOME") if not user else None
    try:
        found = named or (pwd.getpwnam(user) if user else pwd.getpwuid(os.getuid())).pw_dir
    except (KeyError, ValueError):  # no entry, as in many containers; or a name with a null byte
        return None
    return found if os.path.isabs(found) else None
