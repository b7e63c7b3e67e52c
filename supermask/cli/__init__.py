"""The command line: one file per command. Nothing heavier than click is imported until a command runs."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from supermask._version import __version__
from supermask.errors import SupermaskError, one_line, require

EPILOG = """\b
Exit codes: 0 done, 1 it failed, 2 the words of the call are wrong, 3 a file given is bad,
4 the run folder is in use or belongs to another config, 5 the loss stopped being finite,
75 stopped by a signal or the time limit after saving a checkpoint, 130 interrupted by Ctrl-C."""


class Commands(click.Group):
    """The files beside this one are the commands; each is imported when it is asked for."""

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
            if sys.stdout is not None:  # it is where a daemon closed it
                sys.stdout.flush()
            return result
        except BrokenPipeError as error:
            raise ClosedPipe from error  # click would end it with exit code 1


class ClosedPipe(Exception):  # noqa: N818 - not an error: the reader of a pipe has gone, as in `supermask list | head -1`
    pass


@click.group(
    cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, message="%(version)s")
def group() -> None:
    """Find supermasks: masks over frozen random weights.

    Results go to stdout, progress and messages to stderr. Every option can be set by an environment variable:
    --data-dir by SUPERMASK_DATA_DIR, and so on.
    """


def main(arguments: list[str] | None = None) -> None:
    """The entry point: runs a command, turns every expected error into one line and an exit code."""
    with suppress(FileNotFoundError):  # a folder that is deleted
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())  # so that `--arch mypkg.nets:MyNet` finds a package of the current folder
    sys.exit(_run(arguments))


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
        return _complain(f"{one_line(error)} (is the disk full, or the output closed?)", 1)
    except MemoryError:
        return _complain("out of memory; try a smaller --batch-size or --width", 1)


def _forget_stdout() -> None:
    """What is still in the buffer would fail once more when Python ends."""
    with suppress(OSError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def one_line_of(error: click.ClickException) -> str:
    """A click error on one line, with the command whose --help says more."""
    context = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context else ""
    return " ".join(error.format_message().split()) + hint


def _complain(message: str, code: int) -> int:
    click.echo(f"supermask: {message}", err=True)
    return code
