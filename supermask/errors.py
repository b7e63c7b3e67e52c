"""Errors that are shown to a user: one line, no traceback, an exit code of their own."""

from collections.abc import Iterable


class SupermaskError(Exception):
    """Something went wrong that the user can understand; the message is one line and says what would be right."""

    exit_code = 1

    def __str__(self) -> str:
        return " ".join(super().__str__().split())  # whatever name of a user's it quotes


class DiskError(SupermaskError):
    """The disk refused, for example because it is full."""


class UsageError(SupermaskError):
    """The words of the call are wrong: an unknown name, a number out of range."""

    exit_code = 2


class BadFileError(SupermaskError):
    """A file that was given is missing, damaged or of a foreign kind."""

    exit_code = 3


class RunFolderError(SupermaskError):
    """The run folder is in use or belongs to another config."""

    exit_code = 4


class DivergedError(SupermaskError):
    """The loss stopped being finite."""

    exit_code = 5


class StoppedError(SupermaskError):
    """A signal or the time limit ended a search after its checkpoint was saved; a script may start it again."""

    exit_code = 75


class InterruptionError(SupermaskError):
    """The user pressed Ctrl-C."""

    exit_code = 130


def one_line(error: BaseException) -> str:
    """The message of any exception on a single line, for quoting inside our own messages."""
    return " ".join(str(error).split()) or type(error).__name__


def require(what: str, name: object, valid: Iterable[str], more: str = "") -> None:
    """Raise a UsageError that lists the valid names, nearest first, unless `name` is one of them."""
    valid = tuple(valid)
    if name in valid:
        return
    import difflib  # only an error pays for it

    near = difflib.get_close_matches(str(name), valid, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    listed = f"valid: {', '.join(valid)}" if valid else "there are none"
    raise UsageError(f"unknown {what} {name!r}: {hint}{listed}{more}")
