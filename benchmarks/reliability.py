"""How a long run and its files stand up to kills, signals and damage: counts, not timings.

    python benchmarks/reliability.py --kills 25 --inputs 100000

A search of LeNet-300-100 on the digits is killed at random moments and resumed to its end, stopped by signals at random
moments of its life, and its ticket must have the bytes of an undisturbed one. Then files of every kind that is read are
damaged at random (bits flipped, pieces cut out, doubled or overwritten) and read: only errors of ours may come of it.
Prints a table, then one JSON line; exits with 1 if anything was otherwise.
"""

import argparse
import gzip
import json
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from facts import facts

import supermask
from supermask import checkpoint, registry
from supermask.config import SearchConfig
from supermask.errors import SupermaskError
from supermask.existing import read_config

SEARCH = ("search", "--arch", "lenet300", "--width", "0.5", "--epochs", "400", "--out", "run", "--json", "-q")
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


def killed(folder: Path, whole: bytes, kills: int, dice: random.Random) -> tuple[int, int]:
    """(tries, tries that ended in the same bytes): each search is killed until it has been at work for a while."""
    same = 0
    for i in range(kills):
        own = folder / f"kill{i}"
        own.mkdir()
        process = start(own, "--checkpoint-every", "0.1s")
        time.sleep(dice.uniform(0.5, 7))
        process.kill()
        process.communicate()
        same += ticket(own) == whole
    return kills, same


def signalled(folder: Path, whole: bytes, tries: int, dice: random.Random) -> tuple[int, int, float]:
    """(signals, those answered by the right code and gone on to the same bytes, longest answer in seconds)."""
    right, longest = 0, 0.0
    for i in range(tries):
        own, number = folder / f"signal{i}", dice.choice(list(CODES))
        own.mkdir()
        process = start(own)
        time.sleep(dice.uniform(0.5, 7))  # from just after Python's own start to the end
        sent = time.monotonic()
        process.send_signal(number)
        process.communicate()
        longest = max(longest, time.monotonic() - sent)
        right += process.returncode in (CODES[number], 0) and ticket(own) == whole
    return tries, right, longest


def damaged(data: bytes, dice: random.Random) -> bytes:
    """One or a few damages at random places."""
    out = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 5, 20))):
        if not out:
            break
        place, size = dice.randrange(len(out)), dice.choice((1, 1, 2, 4, 64, len(out)))
        kind = dice.randrange(5)
        if kind == 0:
            out[place] ^= 1 << dice.randrange(8)
        elif kind == 1:
            del out[place : place + size]
        elif kind == 2:
            out[place:place] = out[place : place + size]
        elif kind == 3:
            out[place : place + size] = dice.randbytes(min(size, len(out) - place))
        else:
            out[place : place + 4] = struct.pack("<I", dice.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF)))
    return bytes(out)


def kinds(folder: Path) -> dict[str, tuple[Path, callable]]:
    """A small good file of each kind, and what reads it."""
    random_ = np.random.default_rng(0)
    images, labels = random_.integers(0, 256, (40, 8, 8)).astype(np.uint8), (np.arange(40) % 10).astype(np.uint8)
    [found] = supermask.search(SearchConfig(arch="lenet300", width=0.02, epochs=1))
    files: dict[str, tuple[Path, callable]] = {}
    path = found.save(folder / "ticket.safetensors")
    files["ticket"] = path, lambda: supermask.Ticket.load(folder / "ticket.safetensors")
    own = folder / "checkpoints"
    own.mkdir()
    path = checkpoint.save(own, 1, {"first": 0}, {"state0": images[:4].astype(np.float32)})
    files["checkpoint"] = path, lambda: checkpoint.newest(own)
    (folder / "config.json").write_text(json.dumps(found.config.to_dict()))
    files["config"] = folder / "config.json", lambda: SearchConfig.from_dict(read_config(folder / "config.json"))
    np.savez(folder / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    npz = registry.load("datasets", "npz")
    files["npz"] = folder / "data.npz", lambda: npz.load(folder, str(folder / "data.npz"))
    mnist = folder / "mnist"
    mnist.mkdir()
    for part in ("train", "t10k"):
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (mnist / name).write_bytes(head + array.tobytes())
    reader = registry.load("datasets", "mnist")
    files["IDX"] = mnist / "train-images-idx3-ubyte", lambda: reader.load(folder)
    (folder / "gz" / "mnist").mkdir(parents=True)
    for name in mnist.iterdir():
        (folder / "gz" / "mnist" / f"{name.name}.gz").write_bytes(gzip.compress(name.read_bytes()))
    files["IDX, gzip"] = folder / "gz/mnist/train-images-idx3-ubyte.gz", lambda: reader.load(folder / "gz")
    cifar = folder / "cifar-10-batches-bin"
    cifar.mkdir()
    record = np.concatenate([labels[:, None], random_.integers(0, 256, (40, 3072)).astype(np.uint8)], 1).tobytes()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (cifar / f"{name}.bin").write_bytes(record)
    cifar10 = registry.load("datasets", "cifar10")
    files["CIFAR-10"] = cifar / "data_batch_1.bin", lambda: cifar10.load(folder)
    return files


def fuzz(path: Path, read: callable, inputs: int, dice: random.Random) -> dict[str, object]:
    """How often damaged files were refused, read all the same, or broke something."""
    good, found = path.read_bytes(), {"inputs": inputs, "refused": 0, "read": 0, "other errors": 0, "slowest s": 0.0}
    for _ in range(inputs):
        path.write_bytes(damaged(good, dice))
        began = time.perf_counter()
        try:
            read()
            found["read"] += 1
        except SupermaskError as error:
            found["refused"] += 1
            found["other errors"] += "\n" in str(error)
        except Exception as error:
            found["other errors"] += 1
            found.setdefault("first", f"{type(error).__name__}: {error}")
        found["slowest s"] = round(max(found["slowest s"], time.perf_counter() - began), 3)
    path.write_bytes(good)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--inputs", type=int, default=100_000, help="damaged files, over all kinds")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    dice, rows = random.Random(args.seed), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.kills:
            whole = ticket(folder)
            tries, same = killed(folder, whole, args.kills, dice)
            rows["kills"] = {"tries": tries, "same bytes": same}
            tries, right, longest = signalled(folder, whole, args.kills, dice)
            rows["signals"] = {"tries": tries, "right": right, "slowest s": round(longest, 2)}
            for key, row in rows.items():
                print(f"{key:12} {row}", flush=True)
        files = kinds(folder)
        for kind, (path, read) in files.items():
            rows[kind] = fuzz(path, read, args.inputs // len(files), dice)
            print(f"{kind:12} {rows[kind]}", flush=True)
    rows["peak memory MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({**facts(), "rows": rows}))
    lost = args.kills and (rows["kills"]["same bytes"], rows["signals"]["right"]) != (args.kills, args.kills)
    sys.exit(int(bool(lost) or any(rows[kind]["other errors"] for kind in files)))


if __name__ == "__main__":
    main()
