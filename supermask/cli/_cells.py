"""`sweep --dry-run`: the cells of a sweep, and the time and memory that they are expected to take."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from supermask import registry
from supermask.cli import _options as opt
from supermask.config.sweep import Cell, Sweep
from supermask.errors import SupermaskError
from supermask.launchers.local import Local

if TYPE_CHECKING:
    from supermask.runs.sweep import SweepFolder

MEASURED = 4
"""Number of programs to measure unless told otherwise."""
LISTED = 1000
"""Number of cells above which nothing is measured unless told otherwise."""

_SAME = (
    *("seed", "density", "sparsity", "init", "label-noise", "select"),
    *("learning-rate", "momentum", "weight-decay", "clip", "clip-each", "label-smoothing", "warmup"),
    *("schedule", "cycles"),
)
"""Axes that neither time nor memory depends on."""
_SHARED = ("seed", "density", "sparsity", "learning-rate")
"""Axes whose values are arguments of the compiled programs; densities are not in a method of the user's own."""
_LENGTHS = ("epochs", "rounds", "generations")
"""Axes that say how long the same program runs."""


@dataclass(frozen=True)
class Estimate:
    """What cells are expected to take.

    Attributes:
        cells: name of a cell -> its (seconds, bytes).
        programs: number of programs that were measured.
        left_out: (cells, programs) that were not.
    """

    cells: Mapping[str, tuple[float, int]]
    programs: int
    left_out: tuple[int, int]


def estimate(
    sweep: Sweep, folder: SweepFolder, launcher: Local, most: int | None, say: Callable[[str], None]
) -> Estimate | None:
    """Measure the programs that most of the open cells need; None if that is not wanted.

    Args:
        most: number of programs to measure; None for a few, or none if there are many cells.
    """
    if most is None and len(sweep) > LISTED:
        say(f"note: more than {LISTED:,} cells are only listed; --measure N also measures time and memory")
    most = (0 if len(sweep) > LISTED else MEASURED) if most is None else most
    if not most:
        return None
    programs: dict[tuple[str, ...], dict[tuple[str, ...], list[Cell]]] = {}
    for cell in sweep.cells():
        if folder.results(cell) is None:
            free = (*_SAME, *_LENGTHS) if cell.values.get("method") != "maskllm" else _LENGTHS  # N of its N:M
            kind = tuple(value for name, value in cell.values.items() if name not in free)
            length = tuple(value for name, value in cell.values.items() if name in _LENGTHS)
            programs.setdefault(kind, {}).setdefault(length, []).append(cell)
    by_size = sorted(programs.values(), key=lambda program: -sum(map(len, program.values())))
    found: dict[str, tuple[float, int]] = {}
    measured = 0
    for number, program in enumerate(by_size[:most], 1):
        first = next(iter(program.values()))[0]
        say(f"measuring {number}/{min(most, len(by_size))}: {first.name}")
        try:
            calls = [sweep.arguments(cells[0].values) for cells in program.values()]
            took = _measure(launcher, calls)
        except SupermaskError as error:
            say(f"not measured: {first.name}: {error}")
            continue
        measured += 1
        compiled: set[str] = set()
        for cells, seconds in zip(program.values(), took["seconds"], strict=True):
            for cell in cells:
                own = registry.is_own("methods", cell.values.get("method", ""))
                shared = ("seed", "learning-rate") if own else _SHARED
                name = str({name: value for name, value in cell.values.items() if name not in shared})
                found[cell.name] = seconds - took["compile_seconds"] * (name in compiled), took["memory_bytes"]
                compiled.add(name)
    missing = sum(len(cells) for program in by_size for cells in program.values()) - len(found)
    return Estimate(found, measured, (missing, len(by_size) - measured))


def _measure(launcher: Local, calls: Sequence[Sequence[str]]) -> dict[str, Any]:
    """See `_measure.measured`; in a process of its own.

    Raises:
        SupermaskError: it failed.
    """
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with launcher.spawn(0, ["-P", "-m", "supermask.cli._measure"], **pipes) as process:
        out, err = process.communicate(json.dumps(calls).encode())
    if process.returncode:
        lines = err.decode(errors="replace").splitlines()
        killed = f"killed by signal {-process.returncode} (out of memory?)"
        why = killed if process.returncode < 0 else lines[-1].removeprefix("supermask: ") if lines else "it failed"
        raise SupermaskError(why)
    found: dict[str, Any] = json.loads(out)
    return found


def show_cells(
    sweep: Sweep,
    folder: SweepFolder,
    found: Estimate | None,
    as_json: bool,
    together: int,
    say: Callable[[str], None],
) -> None:
    """Print the cells, and on stderr their number and what they take.

    Args:
        together: number of calls at a time.
    """
    states: dict[str, int] = {}
    for cell in sweep.cells():
        state = _state(folder, cell)
        states[state] = states.get(state, 0) + 1
        expected = found.cells.get(cell.name) if found else None
        if as_json:
            values = {"cell": cell.name, **cell.values, "run": str(folder.run(cell)), "state": state}
            opt.print_json(values | dict(zip(("seconds", "memory_bytes"), expected or (), strict=False)))
        else:
            click.echo(f"{cell.name}  {state}" + (f"  {_time(expected[0])}  {_size(expected[1])}" if expected else ""))
    counts = ", ".join(f"{count:,} {state}" for state, count in states.items())
    say(f"{len(sweep):,} cells in {folder.path}: {counts}")
    if found is None:
        return
    if found.cells:
        seconds = [each for each, _ in found.cells.values()]
        memory = max(size for _, size in found.cells.values())
        whole = max(sum(seconds) / together, *seconds)
        say(
            f"expected: {_time(whole)} for {len(seconds):,} cells, {together} at a time; up to {_size(memory)} each "
            f"(measured: {found.programs} {'program' if found.programs == 1 else 'programs'})"
        )
    if found.left_out[0]:
        cells, programs = found.left_out
        say(f"not in that: {cells:,} cells of {programs:,} other programs; --measure {programs + found.programs}")


def _time(seconds: float) -> str:
    """About how long that is: `40 s`, `12 min` or `3.5 h`."""
    for length, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _state(folder: SweepFolder, cell: Cell) -> str:
    if folder.results(cell) is not None:
        return "finished"
    if folder.failure(cell):
        return "failed"
    return "stopped" if folder.begun(cell) else "new"
