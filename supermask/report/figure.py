"""An empty figure, and the file that it becomes: the same drawing gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supermask.errors import SupermaskError, UsageError, one_line
from supermask.storage.atomic import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE: Any = {"font.size": 9.0, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "supermask"}
METADATA = {".png": {"Software": None}, ".svg": {"Date": None}}
"""Endings of pictures, and what would otherwise be written into them: a version, the time."""
DPI = 150


def check_picture(path: Path) -> None:
    """Check that a picture can be drawn and written there, before the work that it is to show.

    Raises:
        UsageError: it has another ending, there is no folder for it, or a folder is in its place.
        SupermaskError: matplotlib is missing or does not start.
    """
    _ending(path)
    if path.is_dir() or not path.parent.is_dir():
        what = "it is a folder" if path.is_dir() else f"{path.parent} is no folder"
        raise UsageError(f"cannot write {path}: {what}")
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError as error:
        raise SupermaskError(f"pictures need {error.name}: pip install 'supermask[plot]'") from error
    except Exception as error:  # a setting of the user's that it cannot read, a library of another version
        raise SupermaskError(f"matplotlib does not start: {one_line(error)}") from error


@contextmanager
def drawn(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of this size in inches; it is written when the block ends. Overwrites.

    It has a canvas of its own (Agg or SVG), so no window is opened, and no setting of the user's counts.

    Raises:
        UsageError, SupermaskError: see `check_picture`.
        DiskError: the disk refused.
    """
    check_picture(path)
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        figure, content = Figure(figsize=(width, height), layout="constrained"), io.BytesIO()
        yield figure
        ending = _ending(path)
        figure.savefig(content, format=ending[1:], dpi=DPI, metadata=METADATA[ending])
    write_atomic(path, content.getvalue())


def _ending(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in METADATA:
        raise UsageError(f"cannot draw {path}: a picture ends in {' or '.join(METADATA)}")
    return ending
