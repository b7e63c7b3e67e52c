"""A process of its own in which `sweep --dry-run` measures: calls on stdin, what they would take on stdout, as JSON."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout
from typing import Any

from supermask import registry
from supermask.cli._axes import CALLED
from supermask.config import Config
from supermask.config.kinds import config_class
from supermask.errors import SupermaskError
from supermask.runtime.own_modules import import_own


def measured(calls: Sequence[Sequence[str]], began: float) -> dict[str, Any]:
    """Measure the first of some calls; return the seconds of each, those of compiling in it, and the bytes of memory.

    Args:
        calls: words of the command, equal but for how long they train.
        began: when the process did, by `time.perf_counter`.
    """
    with ExitStack() as stack:
        configs, contexts = zip(*(_resolved(words, stack) for words in calls), strict=True)
        from supermask.data.source import Source
        from supermask.experiments.estimate import measure

        speed = measure(configs[0], Source(configs[0], contexts[0].params["data_dir"]), began)
    return {
        "seconds": [speed.seconds(config) for config in configs],
        "compile_seconds": speed.compile_seconds,
        "memory_bytes": speed.memory_bytes,
    }


def _resolved(words: Sequence[str], stack: ExitStack) -> tuple[Config, Any]:
    """The config that a call would run, and its context, whose options hold until the stack is closed."""
    called, *arguments = words
    command, said = CALLED[called].command, io.StringIO()
    context = stack.enter_context(
        command.make_context(f"supermask {called}", [*arguments, "--dry-run", "--json", "--quiet"])
    )
    with redirect_stdout(said):
        command.invoke(context)
    values = json.loads(said.getvalue())
    return config_class(values).from_dict(values), context


def main() -> None:
    began = time.perf_counter()
    registry.import_own = import_own
    try:
        print(json.dumps(measured(json.load(sys.stdin), began)))
    except SupermaskError as error:
        sys.exit(f"supermask: {error}")


if __name__ == "__main__":
    main()
