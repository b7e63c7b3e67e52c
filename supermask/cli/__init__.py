"""The command line, with one file per command. Until a command runs, nothing heavier than click is imported."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from supermask import registry
from supermask._version import __version__
from supermask.cli._help import HELP_NAMES
from supermask.errors import SupermaskError, one_line, require
from supermask.runtime.own_modules import import_own

EPILOG = """\b
Exit codes: 0 done, 1 failed, 2 the command line is wrong, 3 an input file is bad,
4 the run folder is in use or of another config or other data, 5 the loss is not finite,
75 stopped by a signal or the time limit after saving a checkpoint, 130 interrupted by Ctrl-C."""


class Commands(click.Group):
    """Finds commands by their files beside this one, and imports a command only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"supermask.cli.{name}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if not args[0].startswith("-"):
            require("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:  # it is None if a daemon closed it
                sys.stdout.flush()
            return result
        except BrokenPipeError as error:
            raise ClosedPipe from error  # click would exit with code 1


class ClosedPipe(Exception):  # noqa: N818 - not an error: the reader of a pipe has gone, as in `supermask list | head -1`
    pass


@click.group(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": HELP_NAMES, "max_content_width": 100})
@click.version_option(__version__, message="%(version)s")
def group() -> None:
    """Find supermasks: masks over frozen random weights.

    Results go to stdout, progress and messages to stderr. Every option can also be set by an environment variable,
    such as SUPERMASK_DATA_DIR for --data-dir.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run a command and turn every expected error into one line and an exit code; this is the entry point."""
    registry.import_own = import_own
    code = _run(arguments)
    if "supermask.runtime.hosts" in sys.modules:
        sys.modules["supermask.runtime.hosts"].end_if_joined(code)
    sys.exit(code)


def _run(arguments: list[str] | None) -> int:
    try:
        result: Any = group.main(args=arguments, prog_name="supermask", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except SupermaskError as error:
        return _complain(one_line(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.ClickException as error:
        return _complain(one_line_of(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _complain("interrupted; nothing was written", 130)
    except ClosedPipe:
        _forget_stdout()
        return 0
    except OSError as error:
        _forget_stdout()
        gone = "has the current folder been deleted" if not _has_folder() else "is the disk full, or the output closed"
        return _complain(f"{one_line(error)} ({gone}?)", 1)
    except UnicodeEncodeError as error:
        return _complain(f"{error.object!a} has characters that {error.encoding} lacks; set LC_ALL=C.UTF-8", 1)
    except MemoryError:
        return _complain("out of memory; try a smaller --batch-size or --width", 1)


def _has_folder() -> bool:
    try:
        return bool(os.getcwd())
    except FileNotFoundError:
        return False


def _forget_stdout() -> None:
    """Redirect stdout to nowhere; otherwise flushing its buffer would fail again when Python exits."""
    with suppress(OSError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def one_line_of(error: click.ClickException) -> str:
    """Return a click error on one line, with a hint to the command's --help."""
    context = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context else ""
    return " ".join(error.format_message().split()) + hint


def _complain(message: str, code: int) -> int:
    click.echo(f"supermask: {message}", err=True)
    return code
