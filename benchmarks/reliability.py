"""How a long run stands up to kills, signals and others that want the same run folder: counts, and the longest waits.

    python benchmarks/reliability.py --kills 25

A search of LeNet-300-100 on the digits is killed at random moments and resumed to its end, stopped by signals at random
moments of its life, and its ticket must have the bytes of an undisturbed one. Then eight processes at once start the
same search. Prints a table, then one JSON line; exits with 1 if anything was otherwise. `damage.py` is about files.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from facts import facts

OUT = ("--out", "run")
SEARCH = ("search", "--arch", "lenet300", "--width", "0.5", "--epochs", "400", *OUT, "--json", "-q")
CODES = {signal.SIGTERM: 75, signal.SIGUSR1: 75, signal.SIGHUP: 75, signal.SIGINT: 130}


def start(folder: Path, *words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "supermask", *SEARCH, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ticket(folder: Path) -> bytes:
    """Of the search run, or gone on with, to its end."""
    process = start(folder)
    out, err = process.communicate(timeout=600)
    if process.returncode:
        raise SystemExit(f"the search failed: {err}")
    return (folder / json.loads(out)["ticket"]).read_bytes()


def killed(folder: Path, whole: bytes, kills: int, seconds: float, dice: random.Random) -> tuple[int, int]:
    """(kills, those after which the search went on to the same bytes); one that came after the end is none."""
    done, same = 0, 0
    while done < kills:
        own = fresh(folder / "kill")
        process = start(own, "--checkpoint-every", "0.1s")
        time.sleep(dice.uniform(0.05, seconds))
        process.kill()
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            done += 1
            same += ticket(own) == whole
    return done, same


def signalled(folder: Path, whole: bytes, tries: int, seconds: float, dice: random.Random) -> tuple[int, int, float]:
    """(signals, those answered by the right code and gone on to the same bytes, longest answer in seconds)."""
    done, right, longest = 0, 0, 0.0
    while done < tries:
        own, number = fresh(folder / "signal"), dice.choice(list(CODES))
        process = start(own)
        time.sleep(dice.uniform(0.05, seconds))  # from just after Python's own start to the end
        sent = time.monotonic()
        process.send_signal(number)
        process.communicate()
        if process.returncode != 0:
            done += 1
            longest = max(longest, time.monotonic() - sent)
            right += process.returncode == CODES[number] and ticket(own) == whole
    return done, right, longest


def fresh(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def owners(folder: Path, rounds: int, count: int = 8) -> tuple[int, int, float]:
    """(rounds, those in which one process of eight searched and seven refused, longest refusal in seconds).

    All are started at once on the same search, with a run folder named by --out and, in turn, by default.
    """
    right, longest = 0, 0.0
    for i in range(rounds):
        own = fresh(folder / "owners")
        words = [sys.executable, "-m", "supermask", *(SEARCH if i % 2 else [w for w in SEARCH if w not in OUT])]
        pipes = {"cwd": own, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        began = time.monotonic()
        waiting = [subprocess.Popen([*words, "--epochs", "3000"], **pipes) for _ in range(count)]
        codes: list[int] = []
        while len(codes) < count - 1 and time.monotonic() - began < 60:
            codes += [process.returncode for process in waiting if process.poll() is not None]
            waiting = [process for process in waiting if process.returncode is None]
            time.sleep(0.005)
        longest = max(longest, time.monotonic() - began)
        right += codes == [4] * (count - 1) and len(waiting) == 1
        for process in waiting:
            process.kill()
            process.communicate()
    return rounds, right, longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    dice = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ticket(fresh(folder / "first"))  # compiles, for all that follow
        began = time.monotonic()
        whole = ticket(fresh(folder / "whole"))
        seconds = time.monotonic() - began
        tries, same = killed(folder, whole, args.kills, seconds, dice)
        rows: dict[str, dict[str, object]] = {"kills": {"tries": tries, "right": same}}
        for key, measure in (
            ("signals", lambda: signalled(folder, whole, args.kills, seconds, dice)),
            ("owners", lambda: owners(folder, args.kills)),
        ):
            tries, right, longest = measure()
            rows[key] = {"tries": tries, "right": right, "slowest s": round(longest, 2)}
    for key, row in rows.items():
        print(f"{key:12} {row}")
    print(json.dumps({**facts(), "rows": rows}))
    sys.exit(int(any(row["right"] != row["tries"] for row in rows.values())))


if __name__ == "__main__":
    main()
