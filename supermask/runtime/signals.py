"""The signals that ask a search to stop, handled from the first moment of the process."""

from __future__ import annotations

import os
import signal
from types import FrameType

from supermask.errors import InterruptionError, StoppedError, SupermaskError

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))


def obeyed() -> list[int]:
    """The members of SIGNALS that this process should handle.

    A signal that is ignored when the process starts stays ignored: nohup does this with SIGHUP, and a shell script
    with the SIGINT of its background jobs.
    """
    return [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]


def obey_from_the_start() -> None:
    """Make every obeyed signal end the process at once, with the exit code of a stopped search.

    This holds until another handler is installed. Python's own handlers would print a traceback or let the process be
    killed, and a script could tell neither from a crash.
    """
    for number in obeyed():
        signal.signal(number, _exit_now)


def ignore() -> None:
    """Ignore further signals while Python shuts down, so that they cannot change the exit code."""
    for number in obeyed():
        signal.signal(number, signal.SIG_IGN)


def stopped(number: int | None, what: str) -> SupermaskError:
    """The error with which a stopped search ends: InterruptionError after Ctrl-C, else StoppedError.

    Args:
        number: the signal that came; None if the time limit was reached.
        what: what became of the progress; it ends the message.
    """
    kind = InterruptionError if number == signal.SIGINT else StoppedError
    cause = "time limit reached" if number is None else f"stopped by {signal.Signals(number).name}"
    return kind(f"{'interrupted' if kind is InterruptionError else cause}; {what}")


def end(error: SupermaskError) -> None:
    """Print the error on stderr and end the process with its exit code.

    Nothing is raised, because an exception would surface in the middle of whatever is running, such as an import or a
    compilation.
    """
    try:
        cursor = "\x1b[?25h" if os.isatty(2) else ""  # shows the cursor, which a progress bar hides
        os.write(2, f"{cursor}supermask: {error}\n".encode(errors="backslashreplace"))
    finally:  # even if stderr cannot be written
        os._exit(error.exit_code)


def _exit_now(number: int, frame: FrameType | None) -> None:
    end(stopped(number, "nothing was lost"))
