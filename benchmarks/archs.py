"""All networks, or those that are named: weights, images/s of an edge-popup search, compile time and memory.

    python benchmarks/archs.py resnet20 wrn-16-2
    python benchmarks/archs.py resnet18 resnet50 --shape 224x224x3 --classes 1000 --batch-size 16

Each network has a process of its own, so that its memory is its own; steps are those of `supermask bench`. The last
line is one JSON object; memory includes 6,000 random images.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from typing import Any

os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(os.cpu_count()))  # as the command line does

from supermask import SearchConfig, registry
from supermask.config.inputs import inputs_of
from supermask.resolve import arch_options


def measured(name: str, shape: tuple[int, int, int], classes: int, rounds: int, batch_size: int) -> dict[str, Any]:
    """What `supermask bench` finds of one network, here, in this process, and its number of weights."""
    from facts import facts

    from supermask.engine.problem import build, on_this_machine
    from supermask.experiments.bench import bench, random_images
    from supermask.resolve import resolve

    config = SearchConfig(arch=name, batch_size=batch_size)
    found = bench(config, shape=shape, classes=classes, rounds=rounds)
    model = build(on_this_machine(resolve(config.replace(epochs=1))), random_images(shape, classes)).model
    return {
        "arch": name,
        "weights": sum(math.prod(size) for size in model.weights.values()),
        "norm": arch_options(name).get("norm", "none"),
        "images_per_second": found.images_per_second,
        "spread": found.spread,
        "compile_seconds": found.compile_seconds,
        "peak_memory_bytes": found.peak_memory_bytes,
        "facts": facts(),
    }


def row(found: dict[str, Any]) -> str:
    """One line of the table."""
    low, high = found["spread"]
    cells = [
        f"`{found['arch']}`",
        f"{found['weights']:,}",
        found["norm"],
        f"{found['images_per_second']:,.0f} ({low:,.0f} to {high:,.0f})",
        f"{found['compile_seconds']:.1f} s",
        f"{found['peak_memory_bytes'] / 1e9:.2f} GB",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure the networks one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archs", nargs="*", help="names; all for images by default")
    parser.add_argument("--shape", default="32x32x3")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--here", action="store_true", help="measure the one network in this process, print JSON alone")
    args = parser.parse_args()
    height, width, channels = map(int, args.shape.split("x"))
    if args.here:
        print(json.dumps(measured(*args.archs, (height, width, channels), args.classes, args.rounds, args.batch_size)))
        return
    print("| arch | weights | norm | images/s | compile time | memory |\n|---|---|---|---|---|---|")
    results = []
    of_images = [name for name in registry.names("archs") if inputs_of("archs", name) == "images"]
    for name in args.archs or of_images:
        words = [sys.executable, __file__, name, "--here", "--shape", args.shape]
        for option in ("classes", "rounds", "batch-size"):
            words += [f"--{option}", str(getattr(args, option.replace("-", "_")))]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(f"{name} failed, see above", file=sys.stderr)
            continue
        results.append(json.loads(done.stdout.splitlines()[-1]))
        print(row(results[-1]), flush=True)
    common = {"shape": args.shape, "classes": args.classes, "rounds": args.rounds, "batch_size": args.batch_size}
    facts = results[0]["facts"] if results else {}
    rows = [{key: value for key, value in found.items() if key != "facts"} for found in results]
    print(json.dumps({**facts, **common, "archs": rows}))


if __name__ == "__main__":
    main()
