"""Every search method side by side: the same images, network, epochs and seeds, each with its own recipe.

    python benchmarks/methods.py --dataset digits
    python benchmarks/methods.py --dataset mnist --epochs 20 --density 0.1 --only edge-popup gem-miner

LeNet-300-100. `--density` is the target of the methods that have one; the others end where they end. Test accuracy of
the last epoch's ticket, mean and standard deviation over the seeds; the test set chooses nothing. A GPU is used if one
is there. Prints a table in Markdown, then one JSON line.
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(os.cpu_count()))  # as the command line does

from facts import facts

import supermask
from supermask import registry
from supermask.engine.problem import load_problem, on_this_machine
from supermask.experiments.search import groups
from supermask.experiments.seeds import Unsaved
from supermask.resolve import resolve


def measure(config: supermask.SearchConfig) -> dict[str, object]:
    """Search all seeds of a config, score their tickets on the test images."""
    began = time.perf_counter()
    found = list(groups(load_problem(on_this_machine(resolve(config))), Unsaved()))
    seconds = time.perf_counter() - began
    tickets = [ticket for group in found for ticket in group.tickets]
    return {
        "method": config.method,
        "asked_density": config.density,
        "density": statistics.mean(ticket.density for ticket in tickets),
        "test_accuracy": [supermask.evaluate(ticket).accuracy for ticket in tickets],
        "ticket_bytes": max(len(ticket.to_bytes()) for ticket in tickets),
        "images_per_second": statistics.median(one.group.timings()["images_per_second"] for one in found),
        "seconds_per_seed": seconds / len(tickets),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=["digits", "mnist"], default="digits")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--density", type=float, default=0.5)
    parser.add_argument("--only", nargs="+", choices=registry.names("methods"), default=registry.names("methods"))
    args = parser.parse_args()
    base = {"arch": "lenet300", "dataset": args.dataset, "epochs": args.epochs, "seeds": args.seeds}
    print(f"{base}, density {args.density} where it is a target\n")
    print("| method | density | test accuracy | ticket, bytes | images/s | s a seed |\n|---|---|---|---|---|---|")
    rows = []
    for method in args.only:
        row = measure(supermask.SearchConfig(method=method, density=args.density, **base))
        rows.append(row)
        mean, spread = statistics.mean(row["test_accuracy"]), statistics.pstdev(row["test_accuracy"])
        print(
            f"| `{method}` | {row['density']:.3f} | {mean:.4f} +- {spread:.4f} "
            f"| {row['ticket_bytes']:,} | {row['images_per_second']:,.0f} | {row['seconds_per_seed']:.1f} |",
            flush=True,
        )
    print(json.dumps({**base, **facts(), "rows": rows}))


if __name__ == "__main__":
    main()
