"""The signals that ask a search to stop, from the first moment of the process on."""

from __future__ import annotations

import os
import signal
from types import FrameType

from supermask.errors import InterruptionError, StoppedError, SupermaskError

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))


def obeyed() -> list[int]:
    """All but those that are ignored, which stay so: SIGHUP under nohup, SIGINT of a script's background job."""
    return [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]


def obey_from_the_start() -> None:
    """End at once, with the exit code of a search that was stopped, until someone else sees to these signals.

    Python's own answers would be a traceback or a death that no script knows how to read.
    """
    for number in obeyed():
        signal.signal(number, _leave)


def ignore() -> None:
    """Let the outcome stand that there is, while Python ends."""
    for number in obeyed():
        signal.signal(number, signal.SIG_IGN)


def stopped(number: int | None, what: str) -> SupermaskError:
    """The error to end with after a signal, or after the time limit if there was none; `what` was done about it."""
    kind = InterruptionError if number == signal.SIGINT else StoppedError
    cause = "time limit reached" if number is None else f"stopped by {signal.Signals(number).name}"
    return kind(f"{'interrupted' if kind is InterruptionError else cause}; {what}")


def end(error: SupermaskError) -> None:
    """End the process here: an exception would break into whatever runs, an import or a compilation."""
    try:
        cursor = "\x1b[?25h" if os.isatty(2) else ""  # a progress bar hides it
        os.write(2, f"{cursor}supermask: {error}\n".encode())
    finally:  # whatever has become of stderr
        os._exit(error.exit_code)


def _leave(number: int, frame: FrameType | None) -> None:
    end(stopped(number, "nothing was lost"))
