"""Damaged files of every kind that is read: only errors of ours may come of them, in little time and memory.

    python benchmarks/damage.py --inputs 100000
    python benchmarks/damage.py --engine hypothesis --inputs 20000
    python benchmarks/damage.py --engine atheris --inputs 100000

Bits are flipped, pieces cut out, doubled or overwritten, in files that are otherwise good; `sealed` kinds are damaged
inside of their hash, so that what lies behind it is reached. `random` draws damages from a seed, hypothesis searches
for small ones, atheris for such that lead to other lines of our code. Prints a table, then one JSON line; exits with 1
if anything but an error of ours came of a file, a warning included, or one took a second of processor time (so
what else runs has no say), or more memory than four times its size, or that of the arrays in it if they are packed in
the file, and 1 MB.
"""

import argparse
import gzip
import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SECONDS, TIMES, SPARE = 1.0, 4.0, 1 << 20  # spare: what Python's own objects take, however small the file
IMAGES, PIXELS = 1000, 256


@dataclass
class Kind:
    """A good file, what reads it, and the size of all that is read with it, unpacked, in bytes."""

    path: Path
    read: Callable[[], object]
    size: int
    damage: Callable[[bytes, random.Random], bytes] | None = None
    good: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.good = self.path.read_bytes()


def kinds(folder: Path) -> dict[str, Kind]:
    """One of each."""
    # Here, so that atheris can watch what is imported.
    from supermask import registry
    from supermask.cli import group
    from supermask.config import SearchConfig, TrainConfig
    from supermask.resolve import resolve
    from supermask.runs import checkpoints
    from supermask.runs.index import finished, read_config
    from supermask.runs.results import load_result
    from supermask.storage.container import seal, unseal
    from supermask.ticket import Ticket
    from supermask.weights.inits import of_config
    from supermask.weights.shapes import fingerprint
    from supermask.weights.trained import TrainedWeights

    dice = np.random.default_rng(0)
    images, labels = dice.integers(0, 256, (IMAGES, 16, 16)).astype(np.uint8), (np.arange(IMAGES) % 10).astype(np.uint8)
    config = resolve(SearchConfig(arch="lenet300", epochs=1)).replace(devices=1)
    shapes = {"dense1/kernel": (64, 900), "dense2/kernel": (900, 900), "head/kernel": (900, 10)}
    ticket = Ticket(
        config=config,
        shapes=shapes,
        image_shape=(8, 8, 1),
        mask={name: dice.random(shape) < 0.5 for name, shape in shapes.items()},
        state={},
        fingerprint=fingerprint(of_config(config, 0, shapes)),
        metrics={"loss": 1.0, "train_accuracy": 0.5, "val_accuracy": 0.5, "epochs": 1},
        versions={"supermask": "0"},
    )
    found: dict[str, Kind] = {}

    def add(
        name: str, path: Path, read: Callable[[], object], *beside: Path, unpacked: int = 0, **more: object
    ) -> None:
        size = sum(file.stat().st_size for file in (path, *beside))
        found[name] = Kind(path, read, max(size, unpacked), **more)

    def within(what: str, path: Path) -> Callable[[bytes, random.Random], bytes]:
        """Damages the document or a tensor of a sealed file and seals it again."""

        def damage(data: bytes, dice: random.Random) -> bytes:
            document, tensors = unseal(data, path, 2, what)
            return seal(*damaged_inside(document, tensors, dice))

        return damage

    bits = sum(mask.size for mask in ticket.mask.values())  # a byte each in memory, as in NumPy
    path = ticket.save(folder / "ticket.safetensors")
    add("ticket", path, lambda: Ticket.load(path), unpacked=bits)

    def inspect() -> None:
        with redirect_stdout(io.StringIO()):
            group.main(args=["inspect", str(path)], standalone_mode=False)

    add("ticket, sealed", path, inspect, unpacked=bits, damage=within("ticket", path))
    trained = TrainedWeights(
        config=resolve(TrainConfig(arch="lenet300", epochs=1)),
        image_shape=(8, 8, 1),
        weights=of_config(config, 0, shapes),
        mask=ticket.mask,
        state={},
        metrics=ticket.metrics,
        versions={"supermask": "0"},
    )
    weights = trained.save(folder / "weights.safetensors")
    for name, more in (("weights", {}), ("weights, sealed", {"damage": within("weights", weights)})):
        add(name, weights, lambda: load_result(weights), unpacked=weights.stat().st_size + bits, **more)
    own = folder / "checkpoints"
    own.mkdir()
    saved = checkpoints.save(own, 1, {"first": 0, "rows": [1, "a"]}, {"state0": dice.random((300, 300), np.float32)})
    for name, more in (("checkpoint", {}), ("checkpoint, sealed", {"damage": within("checkpoint", saved)})):
        add(name, saved, lambda: checkpoints.newest(own), **more)
    run = folder / "run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps(config.to_dict()))
    ticket.save(run / "ticket-s0.safetensors")
    row = {"ticket": "run/ticket-s0.safetensors", "ticket_bytes": 1, "density": 0.5, **ticket.metrics}
    (run / "result.json").write_text(json.dumps({"complete": True, "results": [row]}))
    add("config", run / "config.json", lambda: SearchConfig.from_dict(read_config(run / "config.json")))
    add("result", run / "result.json", lambda: finished(run, config), run / "ticket-s0.safetensors", unpacked=bits)
    np.savez(folder / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    npz = registry.load("datasets", "npz")
    add("npz", folder / "data.npz", lambda: npz.load(folder, str(folder / "data.npz")))

    mnist = registry.load("datasets", "mnist")
    for name, pack in (("IDX", lambda data: data), ("IDX, gzip", gzip.compress)):
        base = folder / name / "mnist"
        base.mkdir(parents=True)
        for part in ("train", "t10k"):
            for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
                head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
                suffix = ".gz" if pack is gzip.compress else ""
                (base / f"{part}-{kind}-ubyte{suffix}").write_bytes(pack(head + array.tobytes()))
        first, *others = sorted(base.glob("train-images*")) + sorted(base.glob("t*"))[:-1]
        add(name, first, lambda base=base: mnist.load(base.parent), *others, unpacked=2 * images.size)

    cifar10 = registry.load("datasets", "cifar10")
    pixels = dice.integers(0, 256, (40, 3072)).astype(np.uint8)
    few = labels[:40]
    binary, pickled = folder / "binary" / "cifar-10-batches-bin", folder / "pickled" / "cifar-10-batches-py"
    for base in (binary, pickled):
        base.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (binary / f"{name}.bin").write_bytes(np.concatenate([few[:, None], pixels], 1).tobytes())
        (pickled / name).write_bytes(pickle.dumps({b"data": pixels, b"labels": few.tolist()}, protocol=2))
    for name, base in (("CIFAR-10", binary), ("CIFAR-10, pickled", pickled)):
        first, *others = sorted(base.iterdir())
        add(name, first, lambda base=base: cifar10.load(base.parent), *others)

    from PIL import Image

    pictures = registry.load("datasets", "folder")
    for suffix in ("png", "jpg"):
        base = folder / suffix
        for part in ("train", "test"):
            (base / part / "one").mkdir(parents=True)
            Image.fromarray(dice.integers(0, 256, (PIXELS, PIXELS, 3)).astype(np.uint8)).save(
                base / part / "one" / f"a.{suffix}"
            )
        first, other = (base / part / "one" / f"a.{suffix}" for part in ("train", "test"))
        add(
            suffix.upper(),
            first,
            lambda base=base: pictures.load(folder, str(base)),
            other,
            unpacked=2 * PIXELS * PIXELS * 3,
        )
    return found


def damaged(data: bytes, dice: random.Random) -> bytes:
    """One or a few damages at random places."""
    out = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 5, 20))):
        if not out:
            break
        place, size = dice.randrange(len(out)), dice.choice((1, 1, 2, 4, 64, len(out)))
        if dice.random() < 0.3:
            place %= 512  # where headers are
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


ODD = (None, True, -1, 0, 1, 2**31, 10**30, 1.5, float("nan"), "", "a", "\0", "../../x", [], [1], [[]], {}, {"a": 1})


def damaged_inside(document: dict, tensors: dict, dice: random.Random) -> tuple[dict, dict]:
    """A document with a value exchanged or removed, or with tensors of another shape, type or name."""
    document, tensors = json.loads(json.dumps(document)), dict(tensors)
    if dice.random() < 0.3:
        name = dice.choice(sorted(tensors))
        array = tensors.pop(name)
        other = dice.choice(
            (array[:1], array.ravel(), array.astype(np.float32), array.astype(np.int64), array[:0], None)
        )
        if other is not None:
            tensors[dice.choice((name, "x", "mask/x", "bits/head/kernel", "weights/head/kernel"))] = np.array(other)
        return document, tensors
    place = document
    while True:
        key = dice.choice(sorted(place)) if isinstance(place, dict) else dice.randrange(len(place))
        if isinstance(place[key], dict | list) and place[key] and dice.random() < 0.8:
            place = place[key]
            continue
        if dice.random() < 0.2 and isinstance(place, dict):
            del place[key]
        else:
            place[key] = dice.choice(ODD)
        return document, tensors


class Tally:
    """What came of the inputs of one kind."""

    def __init__(self, kind: Kind) -> None:
        self.kind, self.count, self.seconds, self.peak, self.first = kind, Counter(), 0.0, 0, ""
        warnings.simplefilter("error")
        with redirect_stderr(io.StringIO()):  # notes: the files here are smaller than the official ones
            kind.read()  # imports what it needs

    def try_(self, data: bytes) -> None:
        """Write, read, count; the error that should not be is raised again."""
        self.kind.path.write_bytes(data)
        size = max(self.kind.size, self.kind.size - len(self.kind.good) + len(data))
        what, wrong, seconds, took = self.read()
        if took > TIMES * size + SPARE:  # once more: a table of the interpreter that has just grown is not the file's
            took = self.read()[3]
        self.seconds, self.peak = max(self.seconds, seconds), max(self.peak, took)
        if seconds > SECONDS:
            wrong = wrong or TimeoutError(f"{seconds:.2f} s")
        if took > TIMES * size + SPARE:
            wrong = wrong or MemoryError(f"{took} bytes for {size}")
        self.count["wrong" if wrong else what] += 1
        if wrong is not None:
            self.first = self.first or f"{type(wrong).__name__}: {wrong}"[:300]
            raise wrong

    def read(self) -> tuple[str, Exception | None, float, int]:
        """What came of the file, the error that should not be, seconds of processor time, bytes of memory."""
        from supermask.errors import SupermaskError

        tracemalloc.reset_peak()
        before, began = tracemalloc.get_traced_memory()[0], time.process_time()
        what, wrong = "read", None
        try:
            with redirect_stderr(io.StringIO()):
                self.kind.read()
        except SupermaskError as error:
            what = "refused"
            if "\n" in str(error):
                wrong = error
        except Exception as error:
            wrong = error
        return what, wrong, time.process_time() - began, tracemalloc.get_traced_memory()[1] - before

    def row(self) -> dict[str, object]:
        named = {name: self.count[name] for name in ("refused", "read", "wrong")}
        row = {"inputs": self.count.total(), **named}
        row |= {"slowest s": round(self.seconds, 3), "peak kB": self.peak // 1024, "size kB": self.kind.size // 1024}
        return row | ({"first": self.first} if self.first else {})


def run_random(kind: Kind, inputs: int, seed: int) -> dict[str, object]:
    tally, dice = Tally(kind), random.Random(seed)
    tracemalloc.start()
    for _ in range(inputs):
        with suppress(Exception):  # counted
            tally.try_((kind.damage or damaged)(kind.good, dice))
    tracemalloc.stop()
    kind.path.write_bytes(kind.good)
    return tally.row()


def run_hypothesis(kind: Kind, inputs: int, seed: int) -> dict[str, object]:
    import hypothesis
    from hypothesis import strategies

    tally = Tally(kind)
    quick = dict.fromkeys(hypothesis.HealthCheck)
    asked = hypothesis.settings(max_examples=inputs, database=None, deadline=None, suppress_health_check=list(quick))

    @hypothesis.seed(seed)
    @asked
    @hypothesis.given(strategies.randoms(use_true_random=False))
    def each(dice: random.Random) -> None:
        tally.try_((kind.damage or damaged)(kind.good, dice))

    tracemalloc.start()
    with suppress(Exception):  # counted; hypothesis has made it as small as it could
        each()
    tracemalloc.stop()
    kind.path.write_bytes(kind.good)
    return tally.row()


def run_atheris(name: str, inputs: int, seed: int) -> dict[str, object]:
    """In a process of its own, which libFuzzer ends when it is done; the good file is where it starts."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, __file__, "--engine", "atheris", "--kind", name, "--inputs", str(inputs)]
        process = subprocess.run(
            [*words, "--seed", str(seed), "--child", folder], capture_output=True, text=True, check=False
        )
        row = Path(folder, "row.json")
        if not row.exists():
            return {"inputs": 0, "wrong": 1, "first": process.stderr[-2000:]}
        return json.loads(row.read_text())


def atheris_child(name: str, inputs: int, seed: int, folder: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=["supermask"]):
        kind = kinds(folder)[name]
    corpus = folder / "corpus"
    corpus.mkdir()
    (corpus / "good").write_bytes(kind.good)
    tally, row = Tally(kind), folder / "row.json"
    tracemalloc.start()

    def one(data: bytes) -> None:
        with suppress(Exception):  # counted
            tally.try_(data if kind.damage is None else kind.damage(kind.good, random.Random(data)))
        if tally.count.total() >= inputs:
            row.write_text(json.dumps(tally.row()))
            os._exit(0)

    atheris.Setup([sys.argv[0], str(corpus), f"-seed={seed + 1}", f"-max_len={2 * len(kind.good)}"], one)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("random", "hypothesis", "atheris"), default="random")
    parser.add_argument("--inputs", type=int, default=100_000, help="over all kinds")
    parser.add_argument("--kind", help="this one alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        atheris_child(args.kind, args.inputs, args.seed, args.child)
    rows: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        there = kinds(Path(folder))
        names = [args.kind] if args.kind else list(there)
        for name in names:
            inputs = -(-args.inputs // len(names))
            if args.engine == "atheris":
                rows[name] = run_atheris(name, inputs, args.seed)
            else:
                run = run_random if args.engine == "random" else run_hypothesis
                rows[name] = run(there[name], inputs, args.seed)
            print(f"{name:20} {rows[name]}", flush=True)
    from facts import facts

    total = sum(row["inputs"] for row in rows.values())
    print(json.dumps({**facts(), "engine": args.engine, "seed": args.seed, "inputs": total, "rows": rows}))
    sys.exit(int(any(row["wrong"] for row in rows.values())))


if __name__ == "__main__":
    main()
