"""Errors meant for the user: each is shown as one line without a traceback and has its own exit code."""

from collections.abc import Iterable, Sequence


class SupermaskError(Exception):
    """An error that the user can understand and act on; the message is one line and says what would be right."""

    exit_code = 1

    def __str__(self) -> str:
        return " ".join(super().__str__().split())  # a quoted name may contain line breaks


class DiskError(SupermaskError):
    """The disk refused a write, for example because it is full."""


class UsageError(SupermaskError):
    """The call itself is wrong: for example an unknown name, or a number out of range."""

    exit_code = 2


class BadFileError(SupermaskError):
    """A file that was given is missing, damaged or of the wrong kind."""

    exit_code = 3


class RunFolderError(SupermaskError):
    """The run folder is in use, or belongs to another config, other data or other code."""

    exit_code = 4


class DivergedError(SupermaskError):
    """The loss stopped being finite."""

    exit_code = 5


class StoppedError(SupermaskError):
    """A signal or the time limit stopped a search; running the same command again continues it."""

    exit_code = 75


class InterruptionError(SupermaskError):
    """The user pressed Ctrl-C."""

    exit_code = 130


def listed(names: Sequence[str], shown: int = 5) -> str:
    """The first names, and how many more there are, for a message."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def one_line(error: BaseException) -> str:
    """The message of any exception on a single line, or its type if it has none, to be quoted in our own messages."""
    return " ".join(str(error).split()) or type(error).__name__


def require(what: str, name: object, valid: Iterable[str], more: str = "") -> None:
    """Raise a UsageError unless `name` is one of the valid names.

    The message suggests the nearest valid name and lists all.

    Args:
        what: the kind of name, for the message: "arch".
        name: the name to check.
        valid: the valid names.
        more: text to end the message with.
    """
    valid = tuple(valid)
    if name in valid:
        return
    import difflib  # here, so that only an error pays for the import

    near = difflib.get_close_matches(str(name), valid, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    listed = f"valid: {', '.join(valid)}" if valid else "there are none"
    raise UsageError(f"unknown {what} {name!r}: {hint}{listed}{more}")
