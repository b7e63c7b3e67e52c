"""How the cost of a search step grows: with batch, width, depth, density, seeds and devices, one at a time.

    python benchmarks/scaling.py --rounds 5
    python benchmarks/scaling.py --only seeds devices --json

Around Conv4 on images of 32x32x3 at batch 128, density 0.5, edge-popup, float32. Every point is `supermask.bench` in
this process: steady steps on random images, compilation apart, median of the rounds. Prints a table, then a JSON line.
"""

import argparse
import json
import os
from dataclasses import asdict

os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(os.cpu_count() or 1))  # as the command line does

from facts import facts

import supermask
from supermask.experiments.bench import bench

CORES = os.cpu_count() or 1
BASE = {"arch": "conv4", "batch_size": 128, "width": 1.0, "density": 0.5, "seeds": 1, "augment": "crop-flip"}
AXES = {
    "batch": ("batch_size", (32, 64, 128, 256)),
    "width": ("width", (0.25, 0.5, 1.0)),
    "depth": ("arch", ("conv2", "conv4", "conv6", "conv8")),
    "density": ("density", (0.02, 0.5, 0.98)),
    "seeds": ("seeds", (1, CORES, 2 * CORES)),
    "devices": ("devices", tuple(2**i for i in range(CORES.bit_length()) if 2**i <= CORES)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print the JSON line alone")
    args = parser.parse_args()
    rows = []
    for axis in args.only:
        field, values = AXES[axis]
        for value in dict.fromkeys(values):
            found = bench(supermask.SearchConfig(**BASE | {field: value}), rounds=args.rounds)
            rows.append({"axis": axis, "value": value, **asdict(found)})
            if not args.json:
                low, high = found.spread
                print(
                    f"{axis:8} {value!s:6} {found.images_per_second:9,.0f} images/s ({low:,.0f} - {high:,.0f})"
                    f" {found.ms_per_step:9,.1f} ms/step   {found.peak_memory_bytes / 1e9:.2f} GB so far",
                    flush=True,
                )
    print(json.dumps({"base": BASE, **facts(), "rows": rows}))


if __name__ == "__main__":
    main()
