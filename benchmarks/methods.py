"""Every search method side by side: the same images, network, epochs and seeds, each with its own recipe.

    python benchmarks/methods.py --dataset digits
    python benchmarks/methods.py --dataset mnist --epochs 20 --density 0.5 0.1 0.02 --controlled --plot methods.svg
    python benchmarks/methods.py --dataset mnist --only edge-popup gem-miner

LeNet-300-100. `--density` is the target of the methods that have one; the others end where they end, and run once,
unless `--controlled` makes it a target of all that can have one. Test accuracy of the last epoch's ticket, mean and
standard deviation over the seeds; the test set chooses nothing. A GPU is used if one is there. Prints a table in
Markdown, then one JSON line.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(os.cpu_count()))  # as the command line does

from facts import facts

import supermask
from supermask import registry
from supermask.engine.problem import load_problem, on_this_machine
from supermask.experiments.search import groups
from supermask.experiments.seeds import Unsaved
from supermask.methods._controlled import LAGRANGIAN, Controlled
from supermask.report.curves import curves
from supermask.resolve import resolve

NEARLY = ("double-scoring", "maskllm")
"""Methods that come near a density: between 2k - 1 and 2k, or to the nearest N of M."""


def measure(config: supermask.SearchConfig) -> dict[str, object]:
    """Search all seeds of a config, score their tickets on the test images."""
    began = time.perf_counter()
    found = list(groups(load_problem(on_this_machine(resolve(config))), Unsaved()))
    seconds = time.perf_counter() - began
    tickets = [ticket for group in found for ticket in group.tickets]
    return {
        "method": config.method,
        "asked_density": config.density,
        "options": dict(config.options),
        "density": statistics.mean(ticket.density for ticket in tickets),
        "test_accuracy": [supermask.evaluate(ticket).accuracy for ticket in tickets],
        "ticket_bytes": max(len(ticket.to_bytes()) for ticket in tickets),
        "images_per_second": statistics.median(one.group.timings()["images_per_second"] for one in found),
        "seconds_per_seed": seconds / len(tickets),
    }


def has_target(method: str) -> bool:
    """Whether a method ends at a density, or near it, without being told to."""
    return registry.load("methods", method).keeps_density or method in NEARLY


def settings(method: str, densities: list[float], controlled: bool) -> list[dict[str, object]]:
    """The fields of each search of a method: one for each density, or one alone if it enforces none."""
    if has_target(method):
        return [{"density": density} for density in densities]
    if controlled and issubclass(registry.load("methods", method), Controlled):
        return [{"density": density, "options": {"control": LAGRANGIAN}} for density in densities]
    return [{"density": densities[0]}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=["digits", "mnist"], default="digits")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--density", type=float, nargs="+", default=[0.5])
    parser.add_argument("--controlled", action="store_true", help="-o control=lagrangian for the methods that have it")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="test accuracy against density, a PNG or SVG")
    parser.add_argument("--only", nargs="+", choices=registry.names("methods"), default=registry.names("methods"))
    args = parser.parse_args()
    base = {"arch": "lenet300", "dataset": args.dataset, "epochs": args.epochs, "seeds": args.seeds}
    print(f"{base}\n")
    print("| method | target | density | test accuracy | ticket, bytes | images/s | s a seed |")
    print("|---|---|---|---|---|---|---|")
    rows, failed = [], []
    for method in args.only:
        for fields in settings(method, args.density, args.controlled):
            try:
                row = measure(supermask.SearchConfig(method=method, **fields, **base))
            except supermask.SupermaskError as error:
                print(f"{method} at {fields['density']}: {error}", file=sys.stderr)
                failed.append({"method": method, **fields, "error": str(error)})
                continue
            rows.append(row)
            mean, spread = statistics.mean(row["test_accuracy"]), statistics.pstdev(row["test_accuracy"])
            target = f"{LAGRANGIAN}, " if row["options"] else ""
            target += str(row["asked_density"]) if target or has_target(method) else "-"
            print(
                f"| `{method}` | {target} | {row['density']:.4f} | {mean:.4f} +- {spread:.4f} "
                f"| {row['ticket_bytes']:,} | {row['images_per_second']:,.0f} | {row['seconds_per_seed']:.1f} |",
                flush=True,
            )
    print(json.dumps({**base, **facts(), "rows": rows, "failed": failed}))
    if args.plot:
        every = [row | {"seed": i, "test_accuracy": a} for row in rows for i, a in enumerate(row["test_accuracy"])]
        title = f"{args.dataset}, lenet300, {args.epochs} epochs"
        curves(every, args.plot, x="density", y="test_accuracy", label="method", title=title, log_x=True, chance=0.1)


if __name__ == "__main__":
    main()
