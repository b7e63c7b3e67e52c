"""How sweeps stand up to kills, and what they cost beside their cells: by numbers of cells and processes, and latency.

    python benchmarks/sweeps.py                      # 60 searches over two processes, killed five times
    python benchmarks/sweeps.py --simulate           # the sweep alone, over cells that take no time

The searches are of LeNet-300-100 on the digits. A first sweep is left alone: its time is compared with the sum of its
cells' times over the number of processes, and with what its dry run expected. A second one is killed at random moments,
by turns the sweep, one of its cells, and both, and called again until it is done; no cell may be missing, and none that
was finished may be written again.

`--simulate` measures the sweep itself: all files that it touches are real, on a local disk, and every call of the
operating system on a file waits for a given time first, as on a file system that other hosts share. Processes stand for
hosts. Prints a table, then one JSON line; exits with 1 if a cell was lost or done twice.
"""

import argparse
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from facts import facts

SEEDS = 6
COMMAND = (sys.executable, "-m", "supermask", "sweep")
FILE_CALLS = ("open", "stat", "lstat", "mkdir", "rename", "replace", "unlink", "scandir", "listdir", "fsync", "link")


def words(cells: int, jobs: int, epochs: int, out: Path) -> list[str]:
    """Of the sweep of some searches; their number is rounded up to one of seeds times densities."""
    density = ",".join(f"{0.05 + 0.9 * i / -(-cells // SEEDS):.4f}" for i in range(-(-cells // SEEDS)))
    axes = (f"--seeds=0-{min(SEEDS, cells) - 1}", f"--density={density}")
    return [*axes, f"--jobs={jobs}", f"--out={out}", "--", "--arch=lenet300", f"--epochs={epochs}", "--devices=1"]


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(entry.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.parent.name))
    return found


def results(folder: Path) -> dict[str, tuple[int, int]]:
    """Finished cell -> what tells whether its result was written again."""
    found = {}
    for path in folder.glob("*/result.json"):
        with suppress(OSError, ValueError):
            if json.loads(path.read_text())["complete"]:
                found[path.parent.name] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found


def undisturbed(folder: Path, arguments: list[str], jobs: int) -> dict[str, Any]:
    """Times of a sweep and of its cells, beside what its dry run expected."""
    expected = subprocess.run([*COMMAND, "--dry-run", "--json", *arguments], capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in expected.stdout.splitlines()]
    began, running, cells = time.monotonic(), {}, []
    process = subprocess.Popen([*COMMAND, "-q", *arguments], stdout=subprocess.DEVNULL)
    while process.poll() is None:  # a look costs little beside a search
        now, there = time.monotonic(), set(children(process.pid))
        running |= {pid: now for pid in there if pid not in running}
        cells += [now - running.pop(pid) for pid in set(running) - there]
        time.sleep(0.02)
    seconds, cells = time.monotonic() - began, cells + [time.monotonic() - at for at in running.values()]
    return {
        "cells": len(rows),
        "done": len(results(folder)),
        "total s": round(seconds, 1),
        "cells s": round(sum(cells), 1),
        "ratio": round(seconds / (sum(cells) / jobs), 3),
        "expected cells s": round(sum(row["seconds"] for row in rows), 1),
    }


def killed(folder: Path, arguments: list[str], kills: int, seconds: float, dice: random.Random) -> dict[str, Any]:
    """What became of a sweep that was killed at random moments of its whole length."""
    written: dict[str, tuple[int, int]] = {}
    again, calls = 0, 0
    for number in range(kills + 1):
        process = subprocess.Popen([*COMMAND, "-q", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        calls += 1
        if number < kills:
            time.sleep(dice.uniform(0.2, 1.8) * seconds / (kills + 1))
            cells = children(process.pid)
            if number % 3 and cells:
                os.kill(dice.choice(cells), signal.SIGKILL)
            if number % 3 != 1:
                process.kill()
        code = process.wait()
        now = results(folder)
        again += sum(now.get(cell) != mark for cell, mark in written.items())
        written |= now
    while code:  # a cell that was killed alone has failed, and the next call tries it again
        code = subprocess.run([*COMMAND, "-q", *arguments], stdout=subprocess.DEVNULL, check=False).returncode
        calls += 1
        if calls > 2 * kills + 2:
            break
    return {"kills": kills, "calls": calls, "done": len(results(folder)), "written again": again}


def searches(args: argparse.Namespace) -> int:
    dice = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = words(args.cells, args.jobs, args.epochs, folder / "plain")
        subprocess.run([*COMMAND, "-q", *words(1, 1, args.epochs, folder / "first")], check=True, capture_output=True)
        row = undisturbed(folder / "plain", plain, args.jobs)
        print(row, flush=True)
        arguments = words(args.cells, args.jobs, args.epochs, folder / "killed")
        other = killed(folder / "killed", arguments, args.kills, row["total s"], dice)
        print(other, flush=True)
    print(json.dumps({**facts(), "jobs": args.jobs, "epochs": args.epochs, "left alone": row, "killed": other}))
    return int(not (row["cells"] == row["done"] == other["done"] and other["written again"] == 0))


class Instant:
    """Cells that are done at once, by the real file calls, so that only the sweep's own are slowed down."""

    slots = 1

    def __init__(self, real: dict[str, Any]) -> None:
        self.real = real

    def start(self, slot: int, arguments: list[str], log: Path, lock: int) -> "Instant":
        out = next(word for word in arguments if word.startswith("--out=")).removeprefix("--out=")
        given = dict(word[2:].split("=", 1) for word in arguments if word.startswith("--") and "=" in word)
        row = {"ticket": "t", "run": out, "seed": int(given["seed"]), "val_accuracy": 0.5}
        config = {"method": "edge-popup", "seed": int(given["seed"]), "density": float(given["density"])}
        self.real["mkdir"](out)
        for file, value in (("config.json", config), ("result.json", {"complete": True, "results": [row]})):
            handle = self.real["open"](f"{out}/{file}", os.O_WRONLY | os.O_CREAT)
            os.write(handle, json.dumps(value).encode())
            os.close(handle)
        return self

    def poll(self) -> int:
        return 0

    def stop(self) -> None:
        pass


class Silent:
    """Is told everything, says nothing, and never asks to stop."""

    nothing_to_lose = True

    def __getattr__(self, name: str) -> Any:
        return lambda *_: False


def slow_down(seconds: float) -> tuple[dict[str, Any], list[int]]:
    """Let every call on a file wait first, in this process; return the real calls, and their number so far."""
    real, count = {name: getattr(os, name) for name in FILE_CALLS}, [0]

    def slow(function: Any) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            count[0] += 1
            if seconds:
                time.sleep(seconds)
            return function(*args, **named)

        return call

    for name, function in real.items():
        setattr(os, name, slow(function))
    io.open = slow(io.open)
    return real, count


def simulated(folder: Path, what: str, latency: float) -> dict[str, float]:
    """Seconds and calls on files of one process that sweeps a folder, lists it or summarises it."""
    from supermask.experiments import sweep as sweeping
    from supermask.runs.collection import collect, summarise
    from supermask.runs.sweep import SweepFolder

    sweeping._PAUSE = 0.0  # no cell takes any time
    there = SweepFolder(folder)
    sweep = there.read()
    assert sweep is not None
    list(sweep.cells())
    real, count = slow_down(latency)
    began = time.monotonic()
    if what == "results":
        summarise(collect([folder]))
    elif what == "skip":
        assert all(there.results(cell) is not None for cell in sweep.cells())
    else:
        silent: Any = Silent()
        outcome = sweeping.run_sweep(sweep, there, Instant(real), sweeping.Policy(), silent, silent)
        assert outcome.done == len(sweep), outcome
    return {"seconds": time.monotonic() - began, "calls": count[0]}


def at_once(folder: Path, what: str, latency: float, count: int) -> Iterator[dict[str, float]]:
    """The same in several processes at once."""
    call = [sys.executable, __file__, "--child", what, "--folder", str(folder), "--latencies", str(1e3 * latency)]
    for process in [subprocess.Popen(call, stdout=subprocess.PIPE, text=True) for _ in range(count)]:
        out, _ = process.communicate()
        if process.returncode:
            raise SystemExit("a process of the simulation failed")
        yield json.loads(out)


def simulate(args: argparse.Namespace) -> int:
    from supermask.config.sweep import Sweep
    from supermask.runs.sweep import SweepFolder

    rows = []
    heads = ("cells", "processes", "latency ms", *(f"{what} ms/cell" for what in ("call", "skip", "`results`")))
    print(f"| {' | '.join(heads)} | file calls/cell |\n|{'---|' * 7}")
    for cells, latency, hosts in ((c, ms, h) for c in args.sizes for ms in args.latencies for h in args.processes):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "sweep"
            axes = {"density": tuple(f"{(i + 1) / (cells // 10):.6f}" for i in range(cells // 10))}
            SweepFolder(folder).begin(Sweep("search", {**axes, "seed": tuple(map(str, range(10)))}))
            called = list(at_once(folder, "sweep", latency / 1e3, hosts))
            assert len(results(folder)) == cells
            row: dict[str, float] = {"cells": cells, "processes": hosts, "latency ms": latency}
            row["calling"] = max(one["seconds"] for one in called)
            for what in ("skip", "results"):
                [one] = at_once(folder, what, latency / 1e3, 1)
                row[what] = one["seconds"]
            row["file calls"] = sum(one["calls"] for one in called) / cells
        rows.append(row)
        per_cell = [f"{1e3 * row[key] / cells:.2f}" for key in ("calling", "skip", "results")]
        print(f"| {cells:,} | {hosts} | {latency:g} | {' | '.join(per_cell)} | {row['file calls']:.1f} |", flush=True)
    print(json.dumps({**facts(), "rows": rows}))
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10000], help="numbers of cells, by ten")
    parser.add_argument("--latencies", type=float, nargs="+", default=[0, 1, 5], help="milliseconds of a file call")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(simulated(args.folder, args.child, args.latencies[0] / 1e3)))
        return
    sys.exit(simulate(args) if args.simulate else searches(args))


if __name__ == "__main__":
    main()
